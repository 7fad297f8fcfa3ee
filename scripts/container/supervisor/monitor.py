"""Watches one run of the WebUI from a thread: when it answers, draws, and stops answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scripts.common.webui_client import WebuiClient
from scripts.container.settings import Settings
from scripts.container.supervisor.process import Child
from scripts.container.webui.readiness import LIVELY, NotDrawn, wait_until_drawn

_PATIENCE: Final = 12  # knocks within HANG_TIMEOUT


@dataclass(frozen=True)
class Answers:
    """The API answers; nothing is known about the model."""

    child: Child


@dataclass(frozen=True)
class Drawn:
    """A picture was drawn."""

    child: Child


@dataclass(frozen=True)
class Unusable:
    """It cannot draw, or answers no more."""

    child: Child
    reason: str


def watch(
    child: Child, settings: Settings, tell: Callable[[Answers | Drawn | Unusable], None]
) -> None:
    """Start watching; returns at once.

    Args:
        child: the WebUI's process.
        settings: where it serves, and how long anything may take.
        tell: called from the watching thread.
    """
    api = WebuiClient.local(settings.host, settings.port, settings.api_auth)

    def look() -> None:
        try:
            wait_until_drawn(
                api,
                settings.warmup,
                timeout=settings.ready_timeout,
                gone=child.ended,
                on_answer=lambda: tell(Answers(child)),
            )
        except NotDrawn as reason:
            return tell(Unusable(child, str(reason)))
        tell(Drawn(child))
        if settings.hang_timeout:
            _until_silent(api, child, settings.hang_timeout)
            if not child.ended.is_set():
                tell(Unusable(child, f"no answer for {settings.hang_timeout:.0f} s"))
        return None

    threading.Thread(target=look, daemon=True).start()


def _until_silent(api: WebuiClient, child: Child, patience: float) -> None:
    """Return when nothing has answered for `patience` seconds, or the process has ended."""
    from http.client import HTTPException

    heard = time.monotonic()
    while time.monotonic() - heard < patience:
        if child.ended.wait(patience / _PATIENCE):
            return
        try:
            api.request("GET", LIVELY, timeout=patience / _PATIENCE)
        except (OSError, HTTPException):
            continue
        heard = time.monotonic()
