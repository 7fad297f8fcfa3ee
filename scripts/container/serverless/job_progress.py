"""Report how far a job is while the WebUI draws."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scripts.common.webui_client import PROGRESS, WebuiClient

_INTERVAL: Final = 1.0  # seconds between two reports
_TIMEOUT: Final = 10.0  # seconds; the WebUI answers this at any time

Report = Callable[[dict[str, Any]], None]
"""Sends progress of a job."""


@contextmanager
def reported_progress(client: WebuiClient, report: Report | None) -> Iterator[None]:
    """Report progress until the block ends; a failed report does not fail the job.

    Args:
        client: of the WebUI.
        report: sends progress; None where nobody receives it.
    """
    if not report:
        yield
        return
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_INTERVAL):
            try:
                answer = client.read(PROGRESS, timeout=_TIMEOUT)
                state = answer["state"]
                progress = {
                    "progress": round(float(answer["progress"]), 3),
                    "step": state["sampling_step"],
                    "steps": state["sampling_steps"],
                    "eta_seconds": round(float(answer["eta_relative"]), 1),
                }
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if not done.is_set():
                report(progress)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_TIMEOUT)
