"""The worker's own log: one line an event, `key=value`, for people and machines alike.

The WebUI's own output passes through beside it, unchanged.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timezone
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
_PLAIN: Final = re.compile(r"[^\s\"=]+")
_threshold = "info"


def set_level(level: str) -> None:
    """Leave out what is below `level`, one of LEVELS."""
    global _threshold
    _threshold = level


def line(event: str, level: str, fields: dict[str, object], now: datetime) -> str:
    """One log line; values with spaces, quotes or line breaks are quoted as JSON quotes them."""
    time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    words = {"time": time, "level": level, "event": event, **fields}
    return " ".join(f"{key}={_shown(value)}" for key, value in words.items() if value != "")


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one line to standard error.

    Args:
        event: what happened, lower case with hyphens.
        level: one of LEVELS.
        **fields: what is known about it; seconds are floats, empty strings are left out.
    """
    if LEVELS.index(level) >= LEVELS.index(_threshold):
        print(line(event, level, fields, datetime.now(timezone.utc)), file=sys.stderr, flush=True)


def _shown(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
