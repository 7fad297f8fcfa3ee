"""Jobs of an endpoint's queue, against a stand-in whose worker is a function."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.common.checks.api_requests import request
from scripts.host.deploy.runpod_api import RunpodApi
from tests.smoke.endpoint_under_test import EndpointClient, EndpointSubject, describe_times
from tests.smoke.job_queue import JobQueue
from tests.smoke.test_endpoint import ENDPOINT_CHECKS
from tests.support import runpod, runpod_rest
from tests.support.errors import user_error
from tests.support.runpod import Platform
from tests.support.runpod_queue import ENDPOINT, WORKER, serving
from tests.support.runpod_rest import KEY, Account
from tests.support.scripted_webui import DRAWN


def work(given: Any) -> dict[str, Any]:
    """Answer a job as a worker does."""
    if given.get("payload", {}).get("width") == "wide":
        return {"error": "input.width is no number - a number [input-invalid]"}
    if given.get("api", {}) == {"method": "GET", "endpoint": "/sdapi/v1/sd-models"}:
        return {"output": {"answer": [{"title": "a"}]}}
    time.sleep(0.5 if given.get("steps") == 50 else 0.02)
    return {"output": DRAWN} if given.get("prompt") != "nothing" else {}


@pytest.fixture
def platform() -> Iterator[Platform]:
    with runpod.running() as platform:
        yield platform


@contextmanager
def working(platform: Platform) -> Iterator[None]:
    """Answer jobs until the block ends."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            if job := platform.take():
                platform.store(job["id"], work(job["input"]))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def queue(platform: Platform) -> Iterator[JobQueue]:
    with serving(platform) as base:
        yield JobQueue(RunpodApi(base, KEY), ENDPOINT, poll=0.05)


def test_a_job_ends_by_runsync_and_by_run_with_its_times(
    platform: Platform, queue: JobQueue
) -> None:
    with working(platform):
        job = queue.do({"prompt": "a"}, 10)
        assert (job.status, job.output, job.worker) == ("COMPLETED", DRAWN, WORKER)
        job = queue.wait(queue.run({"prompt": "a"}), 10)
    assert job.status == "COMPLETED"
    assert job.delay is not None
    assert job.execution is not None
    assert describe_times(job).startswith("delay 0.")


def test_an_empty_output_that_runpod_leaves_out_is_one(platform: Platform, queue: JobQueue) -> None:
    with working(platform):
        assert queue.do({"prompt": "nothing"}, 10).output == {}


def test_a_question_that_runpod_does_not_answer_is_repeated(platform: Platform) -> None:
    with working(platform), serving(platform, (429, 502, 503)) as base:
        queue = JobQueue(RunpodApi(base, KEY), ENDPOINT, poll=0.05)
        assert queue.wait(queue.run({"prompt": "a", "steps": 50}), 10).output == DRAWN
    with working(platform), serving(platform, (401,)) as base:
        queue = JobQueue(RunpodApi(base, KEY), ENDPOINT, poll=0.05)
        job = queue.run({"prompt": "a", "steps": 50})
        assert user_error(queue.wait, job, 10).code == "runpod-refused"


def test_a_job_that_nobody_takes_is_cancelled_in_the_end(
    platform: Platform, queue: JobQueue
) -> None:
    job = queue.run({"prompt": "a"})
    assert job.status == "IN_QUEUE"
    with pytest.raises(TimeoutError, match="is IN_QUEUE after 0 s"):
        queue.wait(job, 0.1)
    assert queue.status(job).status == "CANCELLED"
    assert platform.take() is None


def test_requests_become_jobs_and_results_keep_a1111s_shapes(
    platform: Platform, queue: JobQueue
) -> None:
    client = EndpointClient(queue=queue)
    with working(platform):
        assert request(client, "/sdapi/v1/sd-models").json() == [{"title": "a"}]
        assert request(client, "/sdapi/v1/txt2img", {"width": "wide"}).status == 422
        assert request(client, "/sdapi/v1/txt2img", {"prompt": "a"}).json() == DRAWN


def test_a_key_or_endpoint_that_is_wrong_is_named(queue: JobQueue) -> None:
    client = EndpointClient(queue=JobQueue(RunpodApi(queue.api.base, "other"), ENDPOINT))
    assert user_error(request, client, "/sdapi/v1/sd-models").code == "runpod-refused"
    gone = JobQueue(queue.api, "gone")
    assert user_error(gone.run, {"prompt": "a"}).code == "runpod-gone"


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (
            [{"id": WORKER, "status": "IDLE", "gpuTypeId": "NVIDIA GeForce RTX 4090"}],
            "NVIDIA GeForce RTX 4090 at $1.10 an hour",
        ),
        ([], "NVIDIA L40S, the dearest of its pools, at $1.90 an hour"),
    ],
)
def test_every_check_of_an_endpoint_passes_and_names_times_and_price(
    platform: Platform, queue: JobQueue, workers: list[dict[str, Any]], said: str
) -> None:
    account = Account()
    account.workers = workers
    account.endpoints[ENDPOINT] = {"gpu": {"pools": ["ADA_24", "ADA_48_PRO"]}}
    with runpod_rest.serving(account) as base, working(platform):
        subject = EndpointSubject(queue, RunpodApi(base, KEY), 64)
        results = [check.run(subject) for check in ENDPOINT_CHECKS]
    assert [(each.name, each.outcome) for each in results] == [
        (check.name, "passed") for check in ENDPOINT_CHECKS
    ], results
    first, second, cancelled, price = (each.evidence for each in results)
    assert "cold start" in first
    assert "warm" in second
    assert "cancelled after" in cancelled
    assert said in price


def test_a_failed_job_fails_its_check_with_the_workers_reason(
    platform: Platform, queue: JobQueue
) -> None:
    job = queue.run({"prompt": "a"})
    assert platform.take()
    platform.store(job.id, {"error": "the GPU's memory is full [out-of-memory]"})
    subject = EndpointSubject(queue, queue.api, 64)
    error = user_error(subject.read_image, queue.status(job))
    assert "FAILED: the GPU's memory is full" in error.message
