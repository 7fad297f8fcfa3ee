"""Watch the WebUI: first answer, first image, and silence.

Only an image of the requested size proves that the model is loaded: an open port or a list of
models is also there after loading has failed. The same image warms the GPU up, so that the first
job is as fast as the second; an image of each size that customers use does so for all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import PROGRESS, WebuiClient
from scripts.container.log import log
from scripts.container.setting_parsers import Warmup
from scripts.container.settings import Settings
from scripts.container.webui.webui_options import read_options, save_options

if TYPE_CHECKING:
    from scripts.common.checks.option_checks import OptionProblem

_FORMAT, _PNG = "samples_format", "png"  # an option of the WebUI, and its default
_POLL: Final = 0.05  # seconds between two requests to a port that is still closed
_TRIES: Final = 3  # answers without an image until the WebUI counts as unable to draw
_PAUSE: Final = 1.0  # seconds between them
_CHECKS: Final = 12  # liveness checks within HANG_TIMEOUT


def monitor(
    settings: Settings,
    ended: threading.Event,
    options: Mapping[str, Any],
    deadline: float,
    *,
    on_api_up: Callable[[], None],
    on_warmed_up: Callable[[], None],
    on_unhealthy: Callable[[str, str], None],
    on_wrong_options: Callable[[bool], None],
) -> None:
    """Watch one process of the WebUI from a thread; return at once.

    Args:
        settings: its address and all time limits.
        ended: set when the process has ended.
        options: that the WebUI should have, by name.
        deadline: active time at which every image of WARMUP must be there.
        on_api_up: called when the API first answers; the model may be missing.
        on_warmed_up: called when every image of WARMUP was drawn.
        on_unhealthy: called with reason and code when it cannot draw, or answers no more.
        on_wrong_options: called after the log has named options that are unknown or wrong, with
            whether one of them breaks the API.
    """
    client = WebuiClient.local(settings.webui_host, settings.webui_port, settings.api_auth)

    def watch() -> None:
        import scripts.common.checks.api_requests  # noqa: F401 - now, while the WebUI is importing

        try:
            _wait_for_port(client, deadline, ended)
            on_api_up()
            if problems := _log_option_problems(client, options):
                on_wrong_options(any(problem.is_mistyped for problem in problems))
            if settings.warmup:
                with _png_answers(settings, client):
                    for warmup in settings.warmup:
                        _warm_up(client, warmup, deadline, ended)
        except UserError as error:
            return on_unhealthy(error.message, error.code)
        on_warmed_up()
        if settings.hang_timeout:
            _wait_for_silence(client, settings.hang_timeout, ended)
            if not ended.is_set():
                on_unhealthy(f"no answer for {settings.hang_timeout:.0f} s", "not-ready")
        return None

    threading.Thread(target=watch, name="monitor", daemon=True).start()


def _is_alive(client: WebuiClient, timeout: float) -> bool:
    try:
        client.request("GET", PROGRESS, timeout=timeout)
    except OSError:
        return False
    return True


def _wait_for_port(client: WebuiClient, deadline: float, ended: threading.Event) -> None:
    while active_time() < deadline and not ended.wait(_POLL):
        if _is_alive(client, _PAUSE):
            return
    raise UserError("the API did not answer in time", code="port-closed")


def _log_option_problems(client: WebuiClient, options: Mapping[str, Any]) -> list[OptionProblem]:
    """Return and log the options that the WebUI does not have as it should."""
    if not options:
        return []
    from scripts.common.checks.option_checks import CODE, find_option_problems

    try:
        problems = find_option_problems(client, options)
    except UserError as error:
        log("options-unchecked", level="warning", reason=error.message, code=CODE)
        return []
    for problem in problems:
        level = "error" if problem.is_mistyped else "warning"
        log("option-wrong", level=level, option=problem.name, reason=problem.reason, code=CODE)
    return problems


def _png_answers(settings: Settings, client: WebuiClient) -> AbstractContextManager[None]:
    """Make the WebUI answer with PNG, the format that is judged, until the block ends."""
    try:
        configured = read_options(settings).get(_FORMAT, _PNG)
    except (OSError, ValueError):
        configured = _PNG  # the WebUI cannot read the file either
    if str(configured).lower() == _PNG:
        return nullcontext()
    from scripts.container.webui.image_format import image_format

    return image_format(client, {_FORMAT: _PNG}, partial(save_options, settings))


def _warm_up(client: WebuiClient, warmup: Warmup, deadline: float, ended: threading.Event) -> None:
    """Draw an image and check it; the first requests may fail.

    Raises:
        UserError: the WebUI cannot draw it.
    """
    from scripts.common.checks.api_requests import draw, judge_image

    fields = {
        "prompt": "a lighthouse at dawn",
        "seed": 1,
        **asdict(warmup),
        "save_images": False,
    }
    for tries_left in reversed(range(_TRIES)):
        try:
            started = time.monotonic()
            timeout = max(deadline - active_time(), 0.1)
            image = draw(client, "/sdapi/v1/txt2img", fields, timeout=timeout).png
            judgement = judge_image(image, warmup.width, warmup.height)
            if judgement.outcome == "passed":
                log("warmed-up", size=warmup, seconds=round(time.monotonic() - started, 2))
                return
            raise UserError(judgement.evidence, code=judgement.code)
        except UserError as error:
            if not tries_left or ended.wait(_PAUSE) or active_time() > deadline:
                raise UserError(f"image of {warmup}: {error.message}", code=error.code) from None


def _wait_for_silence(client: WebuiClient, limit: float, ended: threading.Event) -> None:
    """Return after `limit` seconds without an answer, or when the process has ended."""
    answered_at = active_time()
    while active_time() - answered_at < limit:
        if ended.wait(limit / _CHECKS):
            return
        if _is_alive(client, limit / _CHECKS):
            answered_at = active_time()
