"""Run work concurrently in threads that do not delay the end of the process.

The interpreter waits for an executor's threads at its end, so one that waits for a stalled peer
would delay an interrupt. A ThreadPool's are daemon threads: their work must stand being killed.
"""

from collections.abc import Callable, Iterator, Mapping
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from scripts.common.diagnostics.error import UserError

Key = TypeVar("Key")
Result = TypeVar("Result")


def run_concurrently(
    work: Mapping[Key, Callable[[], Result]], limit: int
) -> Iterator[tuple[Key, Result | UserError]]:
    """Call every function, `limit` of them at once.

    Args:
        work: functions by key.
        limit: number of threads.

    Yields:
        Each key with its result, or the UserError it raised, in the order they finish.

    Raises:
        BaseException: the first one that is not a `UserError`.
    """

    def run(item: tuple[Key, Callable[[], Result]]) -> tuple[Key, Result | BaseException]:
        key, call = item
        try:
            return key, call()
        except BaseException as error:  # raised where the results are read
            return key, error

    with ThreadPool(limit) as pool:
        for key, result in pool.imap_unordered(run, work.items()):
            if isinstance(result, BaseException) and not isinstance(result, UserError):
                raise result
            yield key, result
