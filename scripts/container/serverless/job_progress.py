"""Report how far a job is while the WebUI draws."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scripts.common.webui_client import PROGRESS, WebuiClient

_INTERVAL: Final = 1.0  # seconds between two reports
_WITH_PREVIEW: Final = PROGRESS.partition("?")[0]
_MAX_PREVIEW: Final = 900_000
"""Characters of a preview: RunPod takes 1 MB of a report, as of each piece of a stream
(https://docs.runpod.io/serverless/workers/handler-functions)."""

_TIMEOUT: Final = 10.0  # seconds; the WebUI answers this at any time

Report = Callable[[dict[str, Any]], None]
"""Sends progress of a job."""


@contextmanager
def reported_progress(
    client: WebuiClient, report: Report | None, *, previews: bool = False
) -> Iterator[None]:
    """Report progress until the block ends; a failed report does not fail the job.

    Args:
        client: of the WebUI.
        report: sends progress; None where nobody receives it.
        previews: with a small image, whenever the WebUI has a new one: it makes one every
            `show_progress_every_n_steps` steps (`modules/shared_state.py`).
    """
    if not report:
        yield
        return
    done = threading.Event()

    def poll() -> None:
        last = None
        while not done.wait(_INTERVAL):
            try:
                answer = client.read(_WITH_PREVIEW if previews else PROGRESS, timeout=_TIMEOUT)
                state = answer["state"]
                progress = {
                    "progress": round(float(answer["progress"]), 3),
                    "step": state["sampling_step"],
                    "steps": state["sampling_steps"],
                    "eta_seconds": round(float(answer["eta_relative"]), 1),
                }
                image = answer.get("current_image") if previews else None
                if image and image != last:
                    progress |= _add_preview(image)
                last = image
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


def _add_preview(image: str) -> dict[str, Any]:
    """Return the key of a report that holds a preview, or why it holds none."""
    if len(image) <= _MAX_PREVIEW:
        return {"preview": image}
    return {"preview_left_out": f"{len(image)} characters, the limit is {_MAX_PREVIEW}"}
