"""How often a process that dies is started again, and after what pause. Pure."""

from __future__ import annotations

from typing import Final

HEALED: Final = 600.0
"""Seconds of service after which earlier deaths are forgotten."""

_LONGEST: Final = 60.0
_DOUBLINGS: Final = 20  # more of them is a number too large for what it is cut to


class Patience:
    """What is left of the patience with one process.

    Args:
        limit: restarts in a row.
        pause: seconds before the first; doubles each time, up to a minute.
    """

    def __init__(self, limit: int, pause: float) -> None:
        self._limit, self._pause = limit, pause
        self._used = 0

    def next_pause(self, served: float) -> float | None:
        """Seconds until the next start; None when there have been enough.

        Args:
            served: seconds that the process was of use.
        """
        if served > HEALED:
            self._used = 0
        if self._used >= self._limit:
            return None
        self._used += 1
        return min(self._pause * 2.0 ** min(self._used - 1, _DOUBLINGS), _LONGEST)


def served(started: float, ready: float, now: float) -> float:
    """Seconds that a process was of use: since it ran and pictures were drawn.

    A handler that dies at once has not served, however long the WebUI has been ready.

    Args:
        started: monotonic time of its start.
        ready: monotonic time since which the worker was ready, 0 when it was not.
        now: monotonic time of its end.
    """
    return now - max(started, ready) if ready else 0.0
