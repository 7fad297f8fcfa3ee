"""Check what the jobs leave behind: a clean stop, a log without known failures."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check, check, judge
from scripts.common.diagnostics.table import excerpt, find_failure
from scripts.common.gpu.judge import Judgement
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import Run


@check("stops within its deadline", "stop-late")
def stops_in_time(run: Run) -> Judgement:
    """Stop the container and measure how long that takes."""
    assert run.worker
    limit = run.loaded.config.smoke.stop_timeout
    run.worker.sample_memory()
    began = time.monotonic()
    run.worker.container.stop(timeout=limit + 2)
    seconds = time.monotonic() - began
    return judge(f"{seconds:.1f} s", "" if seconds < limit else f"allowed are {limit} s")


@check("no known failure in the log")
def log_is_clean(worker: WorkerContainer) -> Judgement:
    """Search the log for known failures."""
    log = worker.log
    if row := find_failure(log):
        return judge("", f"the log contains: {excerpt(row.code, log, context=0)}", row.code)
    return judge(f"{len(log.splitlines())} lines")


@pytest.mark.parametrize("check", [stops_in_time], ids=str)
def test_stop(
    check: Check[Run], started: WorkerContainer, run: Run, examine: Callable[..., None]
) -> None:
    assert started
    examine(check, run)


@pytest.mark.parametrize("check", [log_is_clean], ids=str)
def test_log(
    check: Check[WorkerContainer], ready: WorkerContainer, examine: Callable[..., None]
) -> None:
    examine(check, ready)
