"""What is left after the jobs: memory, a clean stop, and a log without known failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from scripts.common.checks.api import Api
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import match
from scripts.common.gpu import judge
from scripts.host.config.load import LoadedConfig
from tests.smoke.container_under_test import Worker

Saw = Callable[[object], None]


@pytest.mark.fails_as("gpu-memory-kept")
def test_gpu_memory_returns_after_the_jobs(api: Api, run: Any, saw: Saw) -> None:
    if not run.gpu_used:
        pytest.skip("the worker has no GPU whose memory it could tell")
    judgement = judge.judge_memory_after_jobs(run.gpu_used, api.gpu_used())
    saw(judgement.evidence)
    assert judgement.outcome == "passed", judgement.evidence


@pytest.mark.fails_as("stop-late")
def test_stops_within_its_deadline(started: Worker, loaded: LoadedConfig, saw: Saw) -> None:
    limit = loaded.config.smoke.stop_timeout
    began = time.monotonic()
    started.container.stop(timeout=limit + 2)
    seconds = time.monotonic() - began
    saw(f"{seconds:.1f} s of {limit} s")
    assert seconds < limit, f"{seconds:.1f} s, allowed are {limit} s"


def test_the_log_speaks_of_no_known_failure(ready: Worker, saw: Saw) -> None:
    log = ready.log
    if (row := match(log)) and (found := row.search(log)):
        raise UserError(f"the log contains: {found[0]}", code=row.code)
    saw(f"{len(log.splitlines())} lines")
