"""Does several things at once, in threads that never hold up the end of the process.

An executor's threads are awaited when the interpreter ends, so one that waits for a stalled peer
would make an interrupt wait, too. These are daemons: what they do must stand being killed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from scripts.common.diagnostics.error import UserError

Key = TypeVar("Key")
Done = TypeVar("Done")


def side_by_side(
    work: Mapping[Key, Callable[[], Done]], limit: int
) -> Iterator[tuple[Key, Done | UserError]]:
    """Do everything, some of it at once.

    Args:
        work: what is to be done.
        limit: how many things at once.

    Yields:
        Each key with its result, or the failure that came instead, as they come.

    Raises:
        BaseException: the first one that is not a `UserError`.
    """
    todo: queue.SimpleQueue[tuple[Key, Callable[[], Done]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Key, Done | BaseException]] = queue.SimpleQueue()
    for key, call in work.items():
        todo.put((key, call))

    def worker() -> None:
        while not todo.empty():
            try:
                key, call = todo.get_nowait()
            except queue.Empty:  # another one was quicker
                return
            try:
                done.put((key, call()))
            except BaseException as error:  # it belongs to whoever asked for the work
                done.put((key, error))

    for _ in range(min(limit, len(work))):
        threading.Thread(target=worker, daemon=True).start()
    for _ in work:
        key, result = done.get()
        if isinstance(result, BaseException) and not isinstance(result, UserError):
            raise result
        yield key, result
