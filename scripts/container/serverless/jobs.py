"""Does one job: has the WebUI do what was asked, and says what came of it.

Knows nothing of RunPod: progress and uploads are functions that it is given.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import match
from scripts.common.webui_client import Response, WebuiClient
from scripts.container.log import log
from scripts.container.serverless.job_input import Order, read_order
from scripts.container.serverless.job_output import Result, delivered, garbage, in_answer, whole

_QUICK: Final = 10.0  # seconds for requests that the WebUI answers at any time
_INTERRUPTED: Final = 10.0  # seconds that an interrupted picture gets to end
_POLL: Final = 0.05
# Other errors may quote the job: no prompt or name of a setting may have the worker replaced.
_RAISED_BY_TORCH: Final = re.compile(r"\d+ (?:RuntimeError|AcceleratorError): ")
_POISON: Final = ("cuda-error", "no-kernel-image", "kernel-failed")
_PROGRESS: Final = "/sdapi/v1/progress?skip_current_image=true"


@dataclass(frozen=True)
class Surroundings:
    """What a job needs besides the WebUI.

    Args:
        wait_until_ready: returns when pictures can be drawn, within seconds; raises UserError.
        replace_webui: has the supervisor start a new WebUI.
        progress: called about once a second while a picture is drawn; None when nobody listens.
        upload: takes a picture and its suffix and returns its address; None to return base64.
        longest: seconds that a job may take.
        beat: seconds between progress reports.
    """

    wait_until_ready: Callable[[float], None]
    replace_webui: Callable[[], None]
    progress: Callable[[Result], None] | None = None
    upload: Callable[[bytes, str], str] | None = None
    longest: float = 600.0
    beat: float = 1.0


class PoisonedError(UserError):
    """Only a new process can draw again; RunPod should replace the worker."""


def run(job: dict[str, Any], api: WebuiClient, around: Surroundings) -> Result:
    """Do a job.

    Args:
        job: with `id` and `input`, as RunPod sends it.
        api: the WebUI.
        around: everything else.

    Returns:
        What the WebUI answered, with `warnings` where there are any; or `error`, and with it
        `refresh_worker` where this worker is of no more use.
    """
    name, began = str(job.get("id", "")), time.monotonic()
    try:
        order = read_order(job.get("input"), around.longest)
        log("job-started", job=name, api=order.name)
        result = _do(order, api, around, began + order.timeout)
    except UserError as failure:
        seconds = time.monotonic() - began
        log("job-failed", level="warning", job=name, seconds=seconds, reason=str(failure))
        poisoned = {"refresh_worker": True} if isinstance(failure, PoisonedError) else {}
        return {"error": str(failure), **poisoned}
    seconds = time.monotonic() - began
    log("job-done", job=name, seconds=seconds, images=len(result.get("images") or ()))
    return {**result, **({"warnings": list(order.warnings)} if order.warnings else {})}


def stop_drawing(api: WebuiClient) -> bool:
    """Interrupt what is being drawn; whether the WebUI is idle afterwards."""
    deadline = time.monotonic() + _INTERRUPTED
    try:
        api.request("POST", "/sdapi/v1/interrupt", timeout=_QUICK)
        while time.monotonic() < deadline:
            state = api.request("GET", _PROGRESS, timeout=_QUICK).json()["state"]
            if not state["job_count"]:
                return True
            time.sleep(_POLL)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False
    return False


def _do(order: Order, api: WebuiClient, around: Surroundings, deadline: float) -> Result:
    around.wait_until_ready(deadline - time.monotonic())
    with _options_kept(order, api), _progress_told(order, api, around):
        answer = _asked(order, api, around, deadline)
    if answer.status != 200:
        raise _refused(answer)
    result = _parsed(answer)
    if order.api.draws:
        asked = (order.body or {}).get("send_images") is not False
        return delivered(result, "images", in_answer(result, expected=asked), around.upload)
    if order.name == "interrogate" and str(result.get("caption")).endswith("<error>"):
        # The WebUI's way of saying it, with 200: modules/interrogate.py
        raise UserError("the WebUI could not describe the picture", hint="its log says why")
    if order.name == "extras":
        return delivered(result, "image", [whole(result.get("image"))], around.upload)
    return result


def _asked(order: Order, api: WebuiClient, around: Surroundings, deadline: float) -> Response:
    """The WebUI's answer, or a UserError that says why there is none."""
    left = max(deadline - time.monotonic(), 0.1)
    try:
        return api.request(order.api.method, order.api.path, order.body, timeout=left)
    except TimeoutError:
        if not stop_drawing(api):
            around.replace_webui()
        raise UserError(
            f"the job took longer than {order.timeout:g} s and was stopped",
            code="job-timeout",
        ) from None
    except (OSError, HTTPException) as error:
        raise UserError(
            f"the WebUI ended while it worked on this job: {error}",
            code="webui-died",
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the input cannot be sent: {error}", code="input-invalid") from None


def _refused(answer: Response) -> UserError:
    """The WebUI's own words, with a hint where they are known."""
    text = answer.error()
    known = match(text)
    code = known.code if known else ""
    poisoned = code in _POISON and _RAISED_BY_TORCH.match(text)
    return (PoisonedError if poisoned else UserError)(text, code=code)


def _parsed(answer: Response) -> Result:
    try:
        told = answer.json()
    except (ValueError, RecursionError):
        raise garbage("no JSON") from None
    # RunPod reads `error` and `refresh_worker` out of an object; a list is wrapped to be one.
    return told if isinstance(told, dict) else {"answer": told}


@contextmanager
def _options_kept(order: Order, api: WebuiClient) -> Iterator[None]:
    """Put options back that a job changed and the WebUI did not: it was interrupted, or failed."""
    if not (order.body and order.body.get("override_settings")):
        yield
        return
    before = _options(api)
    try:
        yield
    finally:
        after = _options(api)
        changed = {key: before[key] for key in before if key in after and after[key] != before[key]}
        if changed:
            log("options-restored", level="warning", names=",".join(changed))
            _set_options(api, changed)


def _options(api: WebuiClient) -> dict[str, Any]:
    """The WebUI's options, or none where it cannot say."""
    try:
        told = api.request("GET", "/sdapi/v1/options", timeout=_QUICK).json()
    except (OSError, HTTPException, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _set_options(api: WebuiClient, options: dict[str, Any]) -> None:
    try:
        api.request("POST", "/sdapi/v1/options", options, timeout=_QUICK)
    except (OSError, HTTPException) as error:
        log("options-not-restored", level="error", reason=str(error))


@contextmanager
def _progress_told(order: Order, api: WebuiClient, around: Surroundings) -> Iterator[None]:
    """Report progress until the block ends; a report that fails is not worth a job."""
    if not (around.progress and order.api.draws):
        yield
        return
    report, done = around.progress, threading.Event()

    def watch() -> None:
        while not done.wait(around.beat):
            try:
                told = api.request("GET", _PROGRESS, timeout=_QUICK).json()
                state = told["state"]
                words = {
                    "progress": round(float(told["progress"]), 3),
                    "step": state["sampling_step"],
                    "steps": state["sampling_steps"],
                    "eta_seconds": round(float(told["eta_relative"]), 1),
                }
            except (OSError, HTTPException, ValueError, KeyError, TypeError):
                continue
            if not done.is_set():
                report(words)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_QUICK)
