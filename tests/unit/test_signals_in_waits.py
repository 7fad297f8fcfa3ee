"""A signal is handled while the main thread waits, whichever thread the kernel gives it to.

Python runs handlers in the main thread only, and a wait there does not end by a signal that another
thread receives, or that comes just before it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from scripts.common.concurrently import run_concurrently
from scripts.container.supervisor.call_queue import CallQueue

pytestmark = pytest.mark.timeout(20)

Handle = Callable[[Callable[[], None]], None]


@pytest.fixture
def handle() -> Iterator[Handle]:
    """Set what SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(call: Callable[[], None]) -> None:
        def on_signal(_number: int, _frame: FrameType | None) -> None:
            call()

        signal.signal(signal.SIGUSR1, on_signal)

    yield set_handler
    signal.signal(signal.SIGUSR1, before)


def signal_this_thread() -> None:
    time.sleep(0.3)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)


def test_concurrent_work_is_interrupted(handle: Handle) -> None:
    class InterruptedHere(BaseException):
        pass

    def interrupt() -> None:
        raise InterruptedHere

    handle(interrupt)
    released, ended = threading.Event(), threading.Event()

    def work() -> None:
        signal_this_thread()
        released.wait(5)
        ended.set()

    with pytest.raises(InterruptedHere):
        list(run_concurrently({"work": work}, 1))
    assert not ended.is_set()
    released.set()


def test_the_supervisor_handles_it_as_its_next_call(handle: Handle) -> None:
    calls, made = CallQueue(), list[str]()
    handle(lambda: calls.put(made.append, "asked to stop"))
    late = threading.Timer(10, calls.put, (made.append, "something else"))
    late.start()
    threading.Thread(target=signal_this_thread).start()
    calls.run_next()
    late.cancel()
    assert made == ["asked to stop"]
