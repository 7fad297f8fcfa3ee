"""Whether the WebUI can draw: the one proof that its model is loaded.

An open port or a list of models proves nothing; both are there after loading has failed. The same
picture warms the GPU up, so that the first job is as fast as the second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

from scripts.common.webui_client import Response, WebuiClient
from scripts.container.settings import Warmup

LIVELY: Final = "/sdapi/v1/progress?skip_current_image=true"
"""A question that the WebUI answers at once, even while it loads or draws."""

_POLL: Final = 0.05  # seconds between knocks on a port that is still closed
_TRIES: Final = 3  # answers without a picture until the server counts as unable to draw
_PAUSE: Final = 1.0


class NotDrawn(Exception):  # noqa: N818 - an answer, not a fault of this program
    """The WebUI answered, but not with the picture that it was asked for."""


def wait_until_drawn(
    api: WebuiClient,
    warmup: Warmup | None,
    *,
    timeout: float,
    gone: Event,
    on_answer: Callable[[], None],
) -> None:
    """Wait for the port, then for a picture.

    Args:
        api: the WebUI.
        warmup: the picture to ask for; None trusts the open port.
        timeout: seconds for both together.
        gone: set when the WebUI's process has ended.
        on_answer: called once, when the API first answers.

    Raises:
        NotDrawn: no picture came, and why.
    """
    deadline = time.monotonic() + timeout
    _wait_for_port(api, deadline, gone)
    on_answer()
    if warmup is None:
        return
    for tries_left in reversed(range(_TRIES)):
        try:
            draw(api, warmup, timeout=max(deadline - time.monotonic(), 0.1))
        except NotDrawn:
            if not tries_left or gone.wait(_PAUSE) or time.monotonic() > deadline:
                raise
        else:
            return


def draw(api: WebuiClient, asked: Warmup, *, timeout: float) -> None:
    """Have one picture drawn, and look at it.

    Raises:
        NotDrawn: it is not what was asked for, and why.
    """
    from http.client import HTTPException

    order = {
        "prompt": "a lighthouse at dawn",
        "seed": 1,
        "width": asked.width,
        "height": asked.height,
        "steps": asked.steps,
        "override_settings": {"samples_format": "png"},
        "save_images": False,
    }
    try:
        answer = api.request("POST", "/sdapi/v1/txt2img", order, timeout=timeout)
    except TimeoutError:
        raise NotDrawn(f"no picture within {timeout:.0f} s") from None
    except (OSError, HTTPException) as error:
        raise NotDrawn(f"the connection broke: {error}") from None
    _look(answer, asked)


def _look(answer: Response, asked: Warmup) -> None:
    from scripts.common.checks.images import decode_base64, decode_png

    if answer.status != 200:
        raise NotDrawn(f"the WebUI answered {answer.error()}")
    try:
        picture = decode_png(decode_base64(answer.json()["images"][0]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotDrawn(f"the WebUI's answer holds no picture: {error!r}") from None
    if (picture.width, picture.height) != (asked.width, asked.height):
        raise NotDrawn(f"the picture is {picture.size}, not {asked.width}x{asked.height}")
    if picture.colours == 1:
        raise NotDrawn("the picture has one colour throughout")


def _wait_for_port(api: WebuiClient, deadline: float, gone: Event) -> None:
    from http.client import HTTPException

    while time.monotonic() < deadline and not gone.wait(_POLL):
        try:
            api.request("GET", LIVELY, timeout=_PAUSE)
        except (OSError, HTTPException):
            continue
        return
    raise NotDrawn("the API did not answer in time")
