"""Check what the jobs leave behind: a clean stop, a log without known failures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check
from scripts.common.checks.expectations import Expectations
from scripts.common.checks.worker_checks import log_is_clean, stops_in_time
from scripts.common.checks.worker_under_test import WorkerUnderTest
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import RUN


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the check of the stop the config's limit."""
    if metafunc.definition.name.startswith("test_stop"):
        run = metafunc.config.stash.get(RUN, None)
        limit = (run.target.expectations if run else Expectations()).stop_timeout
        metafunc.parametrize("check", [stops_in_time(limit)], ids=str)


def test_stop(
    check: Check[WorkerUnderTest], started: WorkerContainer, examine: Callable[..., None]
) -> None:
    examine(check, started)


@pytest.mark.parametrize("check", [log_is_clean], ids=str)
def test_log(
    check: Check[WorkerUnderTest], ready: WorkerContainer, examine: Callable[..., None]
) -> None:
    examine(check, ready)
