"""Run one job of the queue: from its input to the answer that RunPod is sent.

Independent of RunPod: progress and uploads are functions of the job's context.
"""

import time
from collections.abc import Callable
from functools import partial

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.container.log import log
from scripts.container.serverless.answer.bucket import Upload
from scripts.container.serverless.answer.job_output import JobResult, deliver, tidy_answer
from scripts.container.serverless.answer.output_settings import OutputSettings, parse_output
from scripts.container.serverless.answer.webui_errors import PoisonedError
from scripts.container.serverless.job_context import Job, JobContext
from scripts.container.serverless.job_downloads.job_models import DownloadPolicy, parse_job_models
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import DEFAULT
from scripts.container.serverless.webui_exchange import Answer, ask_webui


def run_job(job: Job, context: JobContext) -> JobResult:
    """Run a job.

    Returns:
        The WebUI's answer, with `warnings` if there are any; or `error`, and with it
        `refresh_worker` when this worker can draw no more.
    """
    name, started_at = str(job.get("id", "")), time.monotonic()
    try:
        given = parse_job_input(job.get("input"), context.time_limit)
        output = parse_output(given.own, job.get("s3Config"))
        upload = _choose_upload(name, output, context)
        policy = context.models.policy if context.models else DownloadPolicy()
        models = parse_job_models(given.own, policy)
        log("job-started", job=name, api=given.endpoint or DEFAULT)
        report = partial(context.report_progress, job) if context.report_progress else None
        deadline = active_time() + given.timeout
        answer = ask_webui(given, context, deadline, output=output, models=models, report=report)
        result = deliver(
            _make_result(answer), job_id=name, delivery=answer.output.delivery, open_upload=upload
        )
    except UserError as error:
        seconds = time.monotonic() - started_at
        log("job-failed", level="warning", job=name, seconds=seconds, reason=str(error))
        refresh = {"refresh_worker": True} if isinstance(error, PoisonedError) else {}
        return {"error": str(error), **refresh}
    seconds = time.monotonic() - started_at
    log("job-done", job=name, seconds=seconds, images=len(result.get("images") or ()))
    return result


def _make_result(answer: Answer) -> JobResult:
    """Return an answer in the form of a job's result."""
    # RunPod reads `error` and `refresh_worker` out of an object; a list is wrapped to be one.
    is_object = isinstance(answer.content, dict)
    content = answer.content if is_object else {"answer": answer.content}
    keeps_init_images = bool(answer.request.fields.get("include_init_images"))
    result = tidy_answer(content, answer.output, keep_init_images=keeps_init_images)
    if answer.downloads:
        result["downloads"] = list(answer.downloads)
    if answer.warnings:
        result["warnings"] = list(answer.warnings)
    return result


def _choose_upload(
    job_id: str, output: OutputSettings, context: JobContext
) -> Callable[[], Upload] | None:
    """Return a function that opens the job's or the worker's bucket; None where there is none.

    Raises:
        UserError: the job asks for a bucket, and there is none (code `bucket-missing`).
    """
    access = output.bucket or context.bucket
    if access:
        return partial(context.open_bucket, access, job_id)
    if output.delivery == "s3":
        raise UserError(code="bucket-missing")
    return None
