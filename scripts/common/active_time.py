"""A clock that stands still while this process does: for deadlines.

RunPod freezes an idle worker and thaws it for the next job (FlashBoot), a host may pause a
container, a laptop sleeps. The clocks of the system go on meanwhile, and every deadline would have
passed at the thaw. So a thread counts ticks: of a gap of many ticks only a little counts.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

TICK: Final = 0.1
"""Seconds between two looks at the system's clock."""

MAX_GAP: Final = 0.3
"""Seconds that count of a longer time without a tick."""


@dataclass(order=True)
class Alarm:
    """A call at a time; `cancel` before it takes it back.

    Args:
        at: active time.
        number: decides between two at one time.
        call: must be quick.
        is_due: it was called.
    """

    at: float
    number: int
    call: Callable[[], object] = field(compare=False)
    is_due: bool = field(default=False, compare=False)
    _is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Do not call it, unless that has begun."""
        self._is_cancelled = True

    def ring(self) -> None:
        """Call it, unless it was cancelled."""
        if not self._is_cancelled:
            self.is_due = True
            self.call()


class _Ticker:
    """The thread that counts; it starts with the first question for the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()
        self._counted, self._last = 0.0, time.monotonic()
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        with self._lock:
            if self._thread is None:
                self._last = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)
                self._thread.start()
            return self._count()

    def set_alarm(self, at: float, call: Callable[[], object]) -> Alarm:
        alarm = Alarm(at, next(self._numbers), call)
        with self._lock:
            heapq.heappush(self._alarms, alarm)
        return alarm

    def _count(self) -> float:
        now = time.monotonic()
        self._counted += min(now - self._last, MAX_GAP)
        self._last = now
        return self._counted

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            due = []
            with self._lock:
                now = self._count()
                while self._alarms and self._alarms[0].at <= now:
                    due.append(heapq.heappop(self._alarms))
            for alarm in due:
                alarm.ring()


_TICKER: Final = _Ticker()


def active_time() -> float:
    """Return seconds that this process has run since some moment; frozen time does not count."""
    return _TICKER.now()


def call_later(seconds: float, call: Callable[[], object]) -> Alarm:
    """Call a function after some seconds of active time, in a thread; at most TICK late."""
    return _TICKER.set_alarm(active_time() + seconds, call)


def wait_for(wait: Callable[[float], bool], deadline: float) -> bool:
    """Wait in short pieces until it has happened, or the deadline has passed.

    Args:
        wait: waits for so many seconds and returns whether it has happened, as `Event.wait` does.
        deadline: active time.
    """
    while True:
        left = max(deadline - active_time(), 0.0)
        if wait(min(left, TICK)):
            return True
        if not left:
            return False


@contextmanager
def shut_at(sock: socket.socket, deadline: float) -> Iterator[Alarm]:
    """Shut a connection down at a deadline, so that whoever reads from it goes on.

    A timeout of the socket itself would pass while the process is frozen.

    Args:
        sock: of the connection; without a timeout of its own until it is closed.
        deadline: active time.
    """

    def shut() -> None:
        with suppress(OSError):  # it is closed
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS would first wait for its peer

    sock.settimeout(None)
    alarm = call_later(deadline - active_time(), shut)
    try:
        yield alarm
    finally:
        alarm.cancel()
