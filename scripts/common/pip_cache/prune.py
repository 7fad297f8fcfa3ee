"""Prune a pip cache that several workers share over a network volume."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.files import exclusive_lock
from scripts.common.pip_cache.entries import Entry, cache_errors, scan
from scripts.common.pip_cache.log_statistics import is_busy

_WORKERS: Final = 16  # threads: a network volume takes its time for each deletion
_LOG_REST: Final = 86_400.0  # seconds that a log must have been left alone: its worker has ended
_GRACE: Final = 1.0  # seconds that a reader of an entry's metadata has to open its content


@dataclass(frozen=True)
class Pruned:
    """Result of a prune.

    Args:
        entries: number of deleted ones.
        size: bytes of them.
        kept: wheels that were chosen, but that a running pip may be about to use.
    """

    entries: int
    size: int
    kept: int


def prune(
    cache: Path,
    *,
    max_age: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete least recently used entries, without harm to a pip that runs on another worker.

    A download that pip misses it downloads again, so these are deleted in two steps: first the file
    by which pip finds them, then, after every reader has opened the rest, that. A built wheel that
    pip has chosen must be there at the end of its run, so wheels stay while any pip runs. Logs show
    which pip runs, so they stay until nothing was written to them for a day.

    Args:
        cache: its folder.
        max_age: seconds unused after which an entry is deleted.
        max_size: bytes that may remain.
        dry_run: only count.

    Raises:
        UserError: the cache cannot be read or written to, or is being pruned.
    """
    with cache_errors(cache), _locked(cache, dry_run=dry_run) as now:
        entries = [entry for entry in scan(cache) if not _is_recent_log(entry, now)]
        chosen = choose(entries, now=now, max_age=max_age, max_size=max_size)
        if dry_run:
            return _result(chosen)
        deleted = [entry for entry in chosen if entry.kind != "wheels"]
        _delete(entry.files[0] for entry in deleted)
        if deleted and is_busy(cache, _volume_time(cache)):
            time.sleep(_GRACE)
        _delete(path for entry in deleted for path in entry.files[1:])
        for entry in chosen:
            if entry.kind == "wheels" and not is_busy(cache, _volume_time(cache)):
                _delete(entry.files)
                deleted.append(entry)
        folders = {entry.files[0].parent for entry in deleted}
        _for_each(lambda folder: _remove_empty(folder, cache), folders)
        return _result(deleted, kept=len(chosen) - len(deleted))


def choose(
    entries: list[Entry], *, now: float, max_age: float | None, max_size: int | None
) -> list[Entry]:
    """Choose the entries to delete, least recently used first. Pure.

    Args:
        entries: all there are.
        now: seconds since the epoch.
        max_age: seconds unused after which an entry is deleted; None for any.
        max_size: bytes that may remain; None for any.
    """
    remaining = sum(entry.size for entry in entries)
    chosen = []
    for entry in sorted(entries, key=lambda entry: entry.used):
        too_old = max_age is not None and now - entry.used > max_age
        too_much = max_size is not None and remaining > max_size
        if not (too_old or too_much):
            break  # every later one is younger, and the rest fits
        chosen.append(entry)
        remaining -= entry.size
    return chosen


def _result(deleted: list[Entry], kept: int = 0) -> Pruned:
    return Pruned(len(deleted), sum(entry.size for entry in deleted), kept)


def _is_recent_log(entry: Entry, now: float) -> bool:
    return entry.kind == "runs" and now - entry.used < _LOG_REST


def _delete(paths: Iterable[Path]) -> None:
    _for_each(lambda path: path.unlink(missing_ok=True), paths)


def _remove_empty(folder: Path, cache: Path) -> None:
    """Remove a folder and those above it that are left empty, up to the cache."""
    with suppress(OSError):  # not empty, or removed by another thread or worker
        while cache in folder.parents:
            folder.rmdir()
            folder = folder.parent


def _for_each(function: Callable[[Path], None], paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(function, paths):
            pass


def _volume_time(cache: Path) -> float:
    """Return the time by the clock that stamps the volume's files, which may be another machine's.

    Seconds since the epoch.
    """
    probe = cache / f".clock-{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def _locked(cache: Path, *, dry_run: bool) -> Iterator[float]:
    """Lock the cache against other prunes, and yield the volume's time."""
    if dry_run or not cache.exists():
        yield time.time()
        return
    lock = cache / ".prune.lock"
    lock.touch()
    # On a network file system without locks two prunes may run: deleting twice does no harm.
    with exclusive_lock(lock, without_locks=True) as is_locked:
        if not is_locked:
            raise UserError(
                "another prune of this cache is running",
                location=str(cache),
                hint="wait until it has ended",
            )
        yield _volume_time(cache)
