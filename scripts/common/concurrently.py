"""Run work concurrently in threads that do not delay the end of the process.

The interpreter waits for an executor's threads at its end, so one that waits for a stalled peer
would delay an interrupt. These are daemon threads: their work must stand being killed. A
`multiprocessing` ThreadPool has such threads too, but the worker's start would wait for its import
and for three threads more in every one of its pools.
"""

import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from scripts.common.active_time import active_time, wait_for
from scripts.common.diagnostics.error import UserError

Key = TypeVar("Key")
Result = TypeVar("Result")


def run_concurrently(
    work: Mapping[Key, Callable[[], Result]], limit: int, *, timeout: float | None = None
) -> Iterator[tuple[Key, Result | UserError]]:
    """Call every function, `limit` of them at once.

    Args:
        work: functions by key.
        limit: number of threads.
        timeout: seconds of active time for all of it; None for no limit.

    Yields:
        Each key with its result, or the UserError it raised, in the order they finish. What has
        not finished after `timeout` is left out; its thread stays behind.

    Raises:
        BaseException: the first one that is not a `UserError`.
    """
    waiting: queue.SimpleQueue[tuple[Key, Callable[[], Result]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Key, Result | BaseException]] = queue.SimpleQueue()
    for item in work.items():
        waiting.put(item)

    def run() -> None:
        while True:
            try:
                key, call = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((key, call()))
            except BaseException as error:  # raised where the results are read
                done.put((key, error))

    taken: list[tuple[Key, Result | BaseException]] = []

    def take(seconds: float) -> bool:
        try:
            taken.append(done.get(timeout=seconds))
        except queue.Empty:
            return False
        return True

    for _ in range(min(limit, len(work))):
        threading.Thread(target=run, daemon=True).start()
    deadline = math.inf if timeout is None else active_time() + timeout
    for _ in work:
        # In pieces without a limit, too: a signal that comes just before a wait does not end it.
        if not wait_for(take, deadline):
            return
        key, result = taken.pop()
        if isinstance(result, BaseException) and not isinstance(result, UserError):
            raise result
        yield key, result
