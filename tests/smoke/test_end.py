"""What is left after the jobs: memory, a clean stop, and a log without known failures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from scripts.common.errors import Failure
from scripts.common.findings import FINDINGS
from scripts.host.config.load import Loaded
from scripts.host.console import size
from scripts.host.smoke import gpu
from scripts.host.smoke.api import Api
from scripts.host.smoke.worker import Worker

Saw = Callable[[object], None]


@pytest.mark.fails_as("gpu-memory-kept")
def test_gpu_memory_returns_after_the_jobs(api: Api, run: Any, saw: Saw) -> None:
    if not run.gpu_used:
        pytest.skip("the worker has no GPU whose memory it could tell")
    used = api.gpu_used()
    saw(f"{size(run.gpu_used)} before the jobs, {size(used)} after")
    assert not gpu.kept(run.gpu_used, used), gpu.kept(run.gpu_used, used)


@pytest.mark.fails_as("stop-late")
def test_stops_within_its_deadline(started: Worker, loaded: Loaded, saw: Saw) -> None:
    limit = loaded.config.smoke.stop_timeout
    began = time.monotonic()
    started.container.stop(timeout=limit + 2)
    seconds = time.monotonic() - began
    saw(f"{seconds:.1f} s of {limit} s")
    assert seconds < limit, f"{seconds:.1f} s, allowed are {limit} s"


def test_the_log_speaks_of_no_known_failure(ready: Worker, saw: Saw) -> None:
    log = ready.log
    for row in FINDINGS.values():
        if row.signature and (found := re.search(row.signature, log)):
            raise Failure(f"the log says: {found[0]}", code=row.code)
    saw(f"{len(log.splitlines())} lines")
