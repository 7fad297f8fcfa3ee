"""Check the worker's API, as its users call it: it works when it has drawn an image."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.api_checks import JOB_CHECKS, ApiSubject
from scripts.common.checks.check import Check


@pytest.mark.parametrize("check", JOB_CHECKS, ids=str)
def test_serving(
    check: Check[ApiSubject], answering: ApiSubject, examine: Callable[..., None]
) -> None:
    examine(check, answering)
