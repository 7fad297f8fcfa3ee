"""End a process by a signal so that it removes what it began: containers, folders, programs."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | signal.Handlers


def raise_on_signals(before: Callable[[], None] = lambda: None) -> None:
    """Have Ctrl-C, SIGTERM and SIGHUP raise a KeyboardInterrupt that holds the signal's number.

    The first one raises it. From then on SIGTERM and SIGHUP are ignored, for nox sends SIGTERM
    0.3 s after Ctrl-C; a second Ctrl-C ends the process at once. A signal that is ignored already,
    as `nohup` has it, stays so.

    Args:
        before: called first.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _set_handlers(signal.default_int_handler, signal.SIG_IGN)
        before()
        raise KeyboardInterrupt(number)

    _set_handlers(interrupt, interrupt)


def _set_handlers(ctrl_c: _Handler, others: _Handler) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, ctrl_c if number == signal.SIGINT else others)
