"""Check a request, have the WebUI answer it, and check the answer.

The one way to the WebUI: for jobs of the queue (`jobs.py`) and for requests to a load-balancing
endpoint (`load_balancer.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import PROGRESS, Response, WebuiClient
from scripts.container.serverless.answer.job_output import (
    check_images,
    hide_secret_flags,
    invalid_answer,
    parse_info,
)
from scripts.container.serverless.answer.output_settings import OutputSettings, take_format
from scripts.container.serverless.answer.webui_errors import HALF_LOADED, explain
from scripts.container.serverless.availability.own_checkpoint import use_listed_name
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.job_downloads.job_models import JobModel
from scripts.container.serverless.job_downloads.model_setup import (
    add_to_request,
    check_use,
    models_ready,
    refuse_unusable,
)
from scripts.container.serverless.job_progress import Report, reported_progress
from scripts.container.serverless.request.image_download import fetch_image
from scripts.container.serverless.request.input_images import prepare_images
from scripts.container.serverless.request.job_input import JobInput
from scripts.container.serverless.request.job_options import undo_afterwards
from scripts.container.serverless.request.job_request import JobRequest, make_request
from scripts.container.status.log_findings import Finding
from scripts.container.webui.image_format import image_format

_QUICK: Final = 10.0  # seconds for requests that the WebUI answers at any time
_INTERRUPT_TIME: Final = 10.0  # seconds that an interrupted image gets to end
_POLL: Final = 0.05


@dataclass(frozen=True)
class Answer:
    """A checked answer of the WebUI.

    Args:
        request: that it answers.
        content: as the WebUI sent it, but for secret flags; any JSON.
        output: what was asked of the images, options of the request included.
        warnings: for the customer.
        downloads: reports of the models that were downloaded for it.
    """

    request: JobRequest
    content: Any
    output: OutputSettings
    warnings: tuple[str, ...] = ()
    downloads: tuple[dict[str, Any], ...] = ()


def ask_webui(
    given: JobInput,
    context: JobContext,
    deadline: float,
    *,
    output: OutputSettings,
    models: Sequence[JobModel] = (),
    report: Report | None = None,
) -> Answer:
    """Check what was asked for, have the WebUI do it, and check what it has done.

    Args:
        given: route and fields.
        context: of the worker.
        deadline: active time at which the answer must be there.
        output: what is asked of the images.
        models: that the job names by address.
        report: receives progress.

    Raises:
        UserError: it cannot be done as asked for.
    """
    context.wait_until_ready(deadline - active_time())
    context.facts.renew()
    request = make_request(given, context.facts, context.policy)
    route, fields = request.route.path, request.fields
    refuse_unusable(request.name, fields, models)
    use_listed_name(route, fields, context.checks.available, context.own_checkpoint)
    warnings = [*request.warnings, *context.checks.check(route, fields)]
    prepare_images(request.fields, fetch_image, deadline - active_time())
    output = take_format(request.fields, output)
    run = partial(_draw, request, output, context, deadline, report, warnings)
    if not (models and context.models):
        return Answer(request, run(), output, tuple(warnings))
    available = context.checks.available
    with models_ready(context.models, available, models, deadline=deadline, report=report) as ready:
        add_to_request(request.fields, ready)
        content = run()
        check_use(ready, parse_info(content))
    downloads = tuple(each.report() for each in ready)
    return Answer(request, content, output, tuple(warnings), downloads)


def stop_drawing(client: WebuiClient) -> bool:
    """Interrupt the current image; return whether the WebUI is idle afterwards."""
    deadline = active_time() + _INTERRUPT_TIME
    try:
        client.request("POST", "/sdapi/v1/interrupt", timeout=_QUICK)
        while active_time() < deadline:
            state = client.read(PROGRESS, timeout=_QUICK)["state"]
            if not state["job_count"]:
                return True
            time.sleep(_POLL)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


def _draw(
    request: JobRequest,
    output: OutputSettings,
    context: JobContext,
    deadline: float,
    report: Report | None,
    warnings: list[str],
) -> Any:  # noqa: ANN401 - any JSON
    """Send a request; return the checked answer, and add warnings about how it has come about."""
    sent_at = time.monotonic()
    response = _exchange(request, output, context, deadline, report)
    warnings += _judge(response, request, context, context.read_log(sent_at))
    return _check(_parse(response), request)


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
        reported_progress(
            context.client, report if request.draws else None, previews=output.previews
        ),
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


def _check(content: Any, request: JobRequest) -> Any:  # noqa: ANN401 - any JSON
    """Check the content of an answer; return it without secrets.

    Raises:
        UserError: it holds something else than was asked for (codes `answer-garbage` and
            `not-described`).
    """
    result = content if isinstance(content, dict) else {}
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
    return content


def _send(request: JobRequest, context: JobContext, deadline: float) -> Response:
    timeout = max(deadline - active_time(), 0.1)
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


def _parse(response: Response) -> Any:  # noqa: ANN401 - any JSON
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise invalid_answer("no JSON") from None
