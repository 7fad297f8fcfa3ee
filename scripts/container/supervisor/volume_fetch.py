"""Has the models that are not baked in, on the volume, before the WebUI starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.container.log import log


@dataclass(frozen=True)
class Stocked:
    """Every model of the list is there and verified; or not, and why."""

    reason: str = ""


def stock(listed: Path, tell: Callable[[Stocked], None]) -> None:
    """Fetch what is missing; returns at once.

    Args:
        listed: the list that the image carries; without one there is nothing to fetch.
        tell: called when all is done, from another thread unless there was nothing to do.
    """
    if listed.exists():
        threading.Thread(target=lambda: tell(_fetched(listed)), daemon=True).start()
    else:
        tell(Stocked())


def _fetched(listed: Path) -> Stocked:
    # Imported here: an image without such a list starts faster without TLS and the like.
    from scripts.common.fetch.volume_models import fetch_all, read_list

    try:
        for found in fetch_all(read_list(listed)):
            log("model-on-volume", path=found.path, state=found.state, seconds=found.seconds)
    except (UserError, OSError) as failure:
        return Stocked(str(failure))
    return Stocked()
