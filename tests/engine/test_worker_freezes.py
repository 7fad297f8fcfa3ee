"""A container that is frozen for longer than every timeout goes on as if nothing had been.

FlashBoot freezes a worker between jobs, a host may do so at any time. The moments are drawn by a
seed: two of starts, and three of workers that are idle or draw. `FREEZES=50` in the environment
draws more of the latter.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from docker.errors import APIError

from tests.engine.test_worker_serverless import Worker, serverless, size

FREEZES = int(os.environ.get("FREEZES", "3"))
READY_TIMEOUT, HANG_TIMEOUT, JOB_TIMEOUT = 20, 3, 3
START = 4.0  # seconds in which a start is frozen somewhere
JOB = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 10}  # takes a second
WRONG = re.compile(
    r"event=(?:webui-unusable|webui-died|handler-died|restarting|gave-up|refused|no-models"
    r"|job-failed|job-crashed|model-problem)\b.*"
)
_TRIES = 20


@contextmanager
def frozen_worker(image: str) -> Iterator[Worker]:
    """A worker with short limits; when the block ends it must run, and nothing have failed."""
    settings = {
        "READY_TIMEOUT": str(READY_TIMEOUT),
        "HANG_TIMEOUT": str(HANG_TIMEOUT),
        "JOB_TIMEOUT": str(JOB_TIMEOUT),
        "STANDIN_STEP_SECONDS": "0.1",
        "STANDIN_TORCH": "0",
    }
    with serverless(image, **settings) as worker:
        yield worker
        time.sleep(HANG_TIMEOUT + 1)  # a WebUI that counts as silent is replaced by now
        worker.box.reload()
        assert worker.box.status == "running"
        assert WRONG.findall(worker.log()) == []


def freeze(worker: Worker, after: float, seconds: float) -> None:
    """Freeze a worker for some seconds, after some."""
    time.sleep(after)
    for tries_left in reversed(range(_TRIES)):
        try:
            worker.box.pause()
            break
        except APIError:  # "unable to freeze": of a process that the kernel cannot stop just now
            if not tries_left:
                raise
    time.sleep(seconds)
    worker.box.unpause()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_start_outlives_a_freeze(cpu_image: str, seed: int) -> None:
    check_start(cpu_image, seed)


def check_start(image: str, seed: int) -> None:
    """Freeze a start."""
    moment = random.Random(seed).uniform(0, START)  # noqa: S311 - a moment, not a secret
    with frozen_worker(image) as worker:
        freeze(worker, moment, READY_TIMEOUT + 1)
        assert size(worker.do(**JOB)) == (64, 64)


@pytest.mark.slow
def test_jobs_outlive_freezes(cpu_image: str) -> None:
    check_jobs(cpu_image, range(FREEZES))


def check_jobs(image: str, seeds: Iterable[int]) -> None:
    """Freeze a worker again and again, while it waits for a job or draws."""
    with frozen_worker(image) as worker:
        worker.do(**JOB)
        for seed in seeds:
            numbers = random.Random(seed)  # noqa: S311 - moments, no secrets
            moment, is_idle = numbers.uniform(0, 1.5), numbers.random() < 1 / 3
            job = "" if is_idle else worker.platform.send(JOB)
            freeze(worker, moment, max(JOB_TIMEOUT, HANG_TIMEOUT) + 1)
            job = job or worker.platform.send(JOB)
            result = worker.platform.result(job)
            assert "error" not in result, f"seed {seed}: {result}"
            assert size(result) == (64, 64)
