"""Run one job: send its input to the WebUI, and check and return the answer.

Independent of RunPod: progress and uploads are functions of the job's context.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import PROGRESS, Response, WebuiClient
from scripts.container.log import log
from scripts.container.serverless.answer.bucket import Upload, open_bucket
from scripts.container.serverless.answer.job_output import (
    JobResult,
    check_images,
    deliver,
    hide_secret_flags,
    invalid_answer,
    tidy_answer,
)
from scripts.container.serverless.answer.output_settings import (
    BucketAccess,
    OutputSettings,
    parse_output,
    take_format,
)
from scripts.container.serverless.answer.webui_errors import HALF_LOADED, PoisonedError, explain
from scripts.container.serverless.availability.own_checkpoint import use_listed_name
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.job_downloads.job_models import (
    DownloadPolicy,
    JobModel,
    parse_job_models,
)
from scripts.container.serverless.job_downloads.model_setup import (
    ModelSetup,
    add_to_request,
    check_use,
    models_ready,
    refuse_unusable,
)
from scripts.container.serverless.job_progress import Report, reported_progress
from scripts.container.serverless.request.image_download import fetch_image
from scripts.container.serverless.request.input_images import prepare_images
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_options import undo_afterwards
from scripts.container.serverless.request.job_request import (
    DEFAULT,
    InputPolicy,
    JobRequest,
    make_request,
)
from scripts.container.serverless.request.webui_facts import FactsCache
from scripts.container.status.log_findings import Finding
from scripts.container.webui.image_format import image_format

_QUICK: Final = 10.0  # seconds for requests that the WebUI answers at any time
_INTERRUPT_TIME: Final = 10.0  # seconds that an interrupted image gets to end
_POLL: Final = 0.05

Job = dict[str, Any]
"""A job as RunPod sends it, with `id` and `input`."""


@dataclass(frozen=True)
class JobContext:
    """Client, limits and callbacks that jobs run with.

    Args:
        client: of the WebUI.
        facts: about the running WebUI.
        checks: of what requests name.
        wait_until_ready: returns within the given seconds when images can be drawn, or raises
            UserError.
        replace_webui: has the supervisor start a new WebUI.
        time_limit: seconds that a job may take.
        policy: what inputs may hold.
        read_log: returns the known failures in what the WebUI has printed since a monotonic time.
            It works on one job at a time, as RunPod's SDK sends them, so they are that job's.
        report_progress: sends progress of a job; None when nobody receives it.
        bucket: of the worker, where images are uploaded; None to return base64.
        open_bucket: opens a bucket for the job of an id.
        own_checkpoint: name in the WebUI of the image's own checkpoint.
        save_options: writes options into the file that the WebUI reads at start.
        models: what models by address need; None where jobs may name none.
        count_unsent: returns how many results RunPod's SDK has not sent yet.
    """

    client: WebuiClient
    facts: FactsCache
    checks: RequestChecks
    wait_until_ready: Callable[[float], None]
    replace_webui: Callable[[], None]
    time_limit: float = 600.0
    policy: InputPolicy = field(default_factory=InputPolicy)
    read_log: Callable[[float], Sequence[Finding]] = lambda _: ()
    report_progress: Callable[[Job, JobResult], None] | None = None
    bucket: BucketAccess | None = None
    open_bucket: Callable[[BucketAccess, str], Upload] = open_bucket
    own_checkpoint: str = ""
    save_options: Callable[[Mapping[str, Any]], None] = lambda _: None
    models: ModelSetup | None = None
    count_unsent: Callable[[], int] = lambda: 0


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
        deadline = started_at + given.timeout
        context.wait_until_ready(deadline - time.monotonic())
        request = make_request(given, context.facts.current(), context.policy)
        route, fields = request.route.path, request.fields
        refuse_unusable(request.name, fields, models)
        use_listed_name(route, fields, context.checks.available, context.own_checkpoint)
        warnings = [*request.warnings, *context.checks.check(route, fields)]
        prepare_images(request.fields, fetch_image, deadline - time.monotonic())
        output = take_format(request.fields, output)
        report = partial(context.report_progress, job) if context.report_progress else None
        result = _run(request, output, models, context, deadline, report)
        warnings += result.pop("warnings", [])
        if warnings:
            result["warnings"] = warnings
        result = deliver(result, job_id=name, delivery=output.delivery, open_upload=upload)
    except UserError as error:
        seconds = time.monotonic() - started_at
        log("job-failed", level="warning", job=name, seconds=seconds, reason=str(error))
        refresh = {"refresh_worker": True} if isinstance(error, PoisonedError) else {}
        return {"error": str(error), **refresh}
    seconds = time.monotonic() - started_at
    log("job-done", job=name, seconds=seconds, images=len(result.get("images") or ()))
    return result


def stop_drawing(client: WebuiClient) -> bool:
    """Interrupt the current image; return whether the WebUI is idle afterwards."""
    deadline = time.monotonic() + _INTERRUPT_TIME
    try:
        client.request("POST", "/sdapi/v1/interrupt", timeout=_QUICK)
        while time.monotonic() < deadline:
            state = client.read(PROGRESS, timeout=_QUICK)["state"]
            if not state["job_count"]:
                return True
            time.sleep(_POLL)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


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


def _run(
    request: JobRequest,
    output: OutputSettings,
    models: Sequence[JobModel],
    context: JobContext,
    deadline: float,
    report: Report | None,
) -> JobResult:
    """Run a request, with the models that its job names by address; most name none."""
    if not (models and context.models):
        return _draw(request, output, context, deadline, report)
    with models_ready(context.models, models, deadline=deadline, report=report) as ready:
        add_to_request(request.fields, ready)
        result = _draw(request, output, context, deadline, report)
        check_use(ready, result.get("parsed_info") or {})
    return {**result, "downloads": [each.report() for each in ready]}


def _draw(
    request: JobRequest,
    output: OutputSettings,
    context: JobContext,
    deadline: float,
    report: Report | None,
) -> JobResult:
    """Send a request; return the checked answer, with warnings about how it has come about."""
    sent_at = time.monotonic()
    response = _exchange(request, output, context, deadline, report)
    warnings = _judge(response, request, context, context.read_log(sent_at))
    result = _check(_parse(response), request, output)
    return {**result, "warnings": warnings} if warnings else result


def _exchange(
    request: JobRequest,
    output: OutputSettings,
    context: JobContext,
    deadline: float,
    report: Report | None,
) -> Response:
    """Send a request and return the response, with options restored and progress reported."""
    is_post = request.route.method == "POST"
    options = output.options if is_post else {}
    with (
        image_format(context.client, options, context.save_options),
        undo_afterwards(
            context.client,
            request.name if is_post else "",
            sets_options=bool(request.fields.get("override_settings")),
        ),
        reported_progress(context.client, report if request.draws else None),
    ):
        return _send(request, context, deadline)


def _judge(
    response: Response, request: JobRequest, context: JobContext, findings: Sequence[Finding]
) -> list[str]:
    """Return warnings about how a response has come about.

    Raises:
        UserError: it is an error, or something else than was asked for.
    """
    checks, path, fields = context.checks, request.route.path, request.fields
    if response.status != 200:
        if any(finding.code == HALF_LOADED for finding in findings):
            context.replace_webui()
        unknown_script = checks.explain_unknown_script(path, fields, response.error())
        raise unknown_script or explain(response, request, findings)
    return checks.check_answer(path, fields, findings) if request.route.method == "POST" else []


def _check(result: JobResult, request: JobRequest, output: OutputSettings) -> JobResult:
    """Check the content of an answer; return it as the job is to have it.

    Raises:
        UserError: it holds something else than was asked for (codes `answer-garbage` and
            `not-described`).
    """
    if request.draws:
        required = request.fields.get("send_images") is not False
        check_images(result, field="images", required=required)
    elif request.name == "extra-single-image":
        check_images(result, field="image")
    elif request.name == "extra-batch-images":
        check_images(result, field="images")
    if request.name == "interrogate" and "<error>" in str(result.get("caption")):
        # The WebUI reports this error with status 200: modules/interrogate.py
        raise UserError(code="not-described")
    if request.name == "cmd-flags":
        return hide_secret_flags(result)
    keeps_init_images = bool(request.fields.get("include_init_images"))
    return tidy_answer(result, output, keep_init_images=keeps_init_images)


def _send(request: JobRequest, context: JobContext, deadline: float) -> Response:
    timeout = max(deadline - time.monotonic(), 0.1)
    try:
        return context.client.request(
            request.route.method, request.path, request.body, timeout=timeout
        )
    except TimeoutError:
        if not stop_drawing(context.client):
            context.replace_webui()
        message = f"the job took longer than {request.timeout:g} s and was stopped"
        raise UserError(message, code="job-timeout") from None
    except OSError as error:
        message = f"the WebUI ended while it worked on this job: {error}"
        raise UserError(message, code="webui-died") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the input cannot be sent: {error}", code="input-invalid") from None


def _parse(response: Response) -> JobResult:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        raise invalid_answer("no JSON") from None
    # RunPod reads `error` and `refresh_worker` out of an object; a list is wrapped to be one.
    return answer if isinstance(answer, dict) else {"answer": answer}
