"""Check a RunPod endpoint by its queue: both ways to run a job, cancelling, times and price."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check, check, judge
from scripts.common.gpu.judge import Judgement
from scripts.host.deploy.runpod_api import RunpodApi
from tests.smoke.endpoint_under_test import TIMEOUT, EndpointSubject, describe_times
from tests.smoke.job_queue import Job
from tests.smoke.recording import Run

LARGE = 512  # pixels; what SD 1.5 draws, unless the config's checkpoint draws larger
POLL_AFTER_CANCEL = 30.0  # seconds


def _judge_image(subject: EndpointSubject, job: Job, more: str) -> Judgement:
    png = subject.read_image(job).png
    wanted = f"{subject.image_size}x{subject.image_size}"
    problem = "" if png.size == wanted else f"the picture is {png.size}, not {wanted}"
    return judge(f"{png.size}, {describe_times(job)}{more}", problem, "picture-size")


@check("the first job draws, by /runsync", "not-drawn")
def draws_by_runsync(subject: EndpointSubject) -> Judgement:
    """Run a job; its delay holds the start of a worker where none was there."""
    subject.workers_before = subject.queue.count_workers()
    job = subject.jobs["first"] = subject.queue.do(subject.make_job(), TIMEOUT)
    there = subject.workers_before
    return _judge_image(subject, job, f"; {there} workers were there" if there else "; cold start")


@check("the second job draws, by /run and /status", "not-drawn")
def draws_by_run(subject: EndpointSubject) -> Judgement:
    """Queue a job, and ask until it has ended."""
    queued = subject.queue.run(subject.make_job(seed=1235))
    job = subject.jobs["second"] = subject.queue.wait(queued, TIMEOUT)
    return _judge_image(
        subject, job, "; warm" if job.worker == subject.jobs["first"].worker else ""
    )


@check("a job can be cancelled, and the next one draws", "not-drawn")
def can_be_cancelled(subject: EndpointSubject) -> Judgement:
    """Cancel a long job, wait until the queue says so, and draw again."""
    job = subject.queue.run(subject.make_job(steps=50))
    began = time.monotonic()
    subject.queue.cancel(job)
    while (job := subject.queue.status(job)).status != "CANCELLED":
        if job.has_ended or time.monotonic() - began > POLL_AFTER_CANCEL:
            return judge("", f"the job is {job.status}")
        time.sleep(subject.queue.poll)
    seconds = time.monotonic() - began
    after = subject.queue.do(subject.make_job(seed=1236), TIMEOUT)
    return _judge_image(subject, after, f"; cancelled after {seconds:.1f} s")


@check("the price of an image is known")
def has_a_price(subject: EndpointSubject) -> Judgement:
    """Multiply a warm job's time by the price that RunPod's catalogue lists for its worker."""
    job = subject.jobs["second"]
    price, gpu = subject.find_price(job)
    seconds = job.execution or 0.0
    dollars = price / 3600 * seconds
    evidence = (
        f"${dollars:.5f}: {seconds:.1f} s of {gpu} at ${price:.2f} an hour, without idle time"
    )
    return judge(evidence, "" if seconds else "the queue names no execution time")


ENDPOINT_CHECKS = (draws_by_runsync, draws_by_run, can_be_cancelled, has_a_price)


@pytest.fixture(scope="session")
def endpoint(run: Run) -> EndpointSubject:
    """The endpoint."""
    assert run.target.queue
    api = RunpodApi.from_environment(run.target.queue.api.ca_bundle)
    size = max(LARGE, run.target.expectations.image_size)
    return EndpointSubject(run.target.queue, api, size)


@pytest.mark.parametrize("check", ENDPOINT_CHECKS, ids=str)
def test_endpoint(
    check: Check[EndpointSubject], endpoint: EndpointSubject, examine: Callable[..., None]
) -> None:
    if check is not ENDPOINT_CHECKS[0] and len(endpoint.jobs) < 1:
        pytest.skip("the first job has failed")
    examine(check, endpoint)
