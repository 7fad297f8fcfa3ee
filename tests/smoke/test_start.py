"""Check the container from its start to its first image, and the process that serves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check
from scripts.common.checks.worker_checks import START_CHECKS
from scripts.common.checks.worker_under_test import WorkerUnderTest
from tests.smoke.container_under_test import WorkerContainer


@pytest.mark.parametrize("check", START_CHECKS, ids=str)
def test_start(
    check: Check[WorkerUnderTest], ready: WorkerContainer, examine: Callable[..., None]
) -> None:
    examine(check, ready)
