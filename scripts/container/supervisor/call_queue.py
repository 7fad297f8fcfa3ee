"""Run calls one at a time in one thread; other threads and signal handlers only put them there."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from scripts.common.active_time import TICK, call_later


class CallQueue:
    """Calls in the order in which they were put."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def put(self, method: Callable[..., None], *arguments: object) -> None:
        """Queue a call; safe in threads and signal handlers."""
        self._calls.put(partial(method, *arguments))

    def put_later(self, seconds: float, method: Callable[..., None], *arguments: object) -> None:
        """Queue a call after some seconds of active time."""
        call_later(seconds, partial(self.put, method, *arguments))

    def run_next(self) -> None:
        """Wait for the next call, and make it.

        In pieces: a signal that comes just before a wait is not handled until that wait ends.
        """
        call = None
        while call is None:
            with suppress(Empty):
                call = self._calls.get(timeout=TICK)
        call()
