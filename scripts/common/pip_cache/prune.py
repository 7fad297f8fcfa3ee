"""Measures and prunes a pip cache that several workers share over a network volume."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.entries import KINDS, Entry, Kind, scan
from scripts.common.pip_cache.log_statistics import Runs, is_busy, read_runs

_AT_ONCE: Final = 16
_LOG_REST: Final = 86_400.0  # seconds that a log must have been left alone: its worker has ended
_GRACE: Final = 1.0  # seconds that a reader of an entry's metadata has to open its content


@dataclass(frozen=True)
class Stats:
    """What a cache is like.

    Args:
        path: where it lies.
        sizes: bytes by kind.
        entries: how many by kind.
        oldest: seconds since the least recently used entry was used, 0 when empty.
        free: bytes free on its file system.
        total: bytes of its file system.
        runs: what pip took from it.
    """

    path: Path
    sizes: dict[Kind, int]
    entries: dict[Kind, int]
    oldest: float
    free: int
    total: int
    runs: Runs


@dataclass(frozen=True)
class Pruned:
    """What a prune did.

    Args:
        entries: how many were deleted.
        size: bytes of them.
        kept: wheels that should have gone, but a running pip may be about to use them.
    """

    entries: int
    size: int
    kept: int


def measure(cache: Path) -> Stats:
    """What a cache is like; one that does not exist is empty.

    Raises:
        UserError: nothing above it exists either, or it cannot be read.
    """
    with _reading(cache):
        entries = list(scan(cache))
        there = next(path for path in (cache, *cache.parents) if path.exists())
        disk = os.statvfs(there)
    first = min((entry.used for entry in entries), default=0.0)
    return Stats(
        path=cache,
        sizes={kind: sum(row.size for row in entries if row.kind == kind) for kind in KINDS},
        entries={kind: sum(1 for row in entries if row.kind == kind) for kind in KINDS},
        oldest=max(time.time() - first, 0.0) if entries else 0.0,
        free=disk.f_bavail * disk.f_frsize,
        total=disk.f_blocks * disk.f_frsize,
        runs=read_runs(cache),
    )


def victims(
    entries: list[Entry], *, now: float, max_age: float | None, max_size: int | None
) -> list[Entry]:
    """Which entries must go, least recently used first. Pure.

    Args:
        entries: all there are.
        now: seconds since the epoch.
        max_age: seconds unused after which an entry goes; None for any.
        max_size: bytes that may remain; None for any.
    """
    left = sum(entry.size for entry in entries)
    chosen = []
    for entry in sorted(entries, key=lambda entry: entry.used):
        too_old = max_age is not None and now - entry.used > max_age
        too_much = max_size is not None and left > max_size
        if not (too_old or too_much):
            break  # every later one is younger, and nothing more has to go
        chosen.append(entry)
        left -= entry.size
    return chosen


def prune(
    cache: Path,
    *,
    max_age: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete least recently used entries, without hurting a pip that runs on another worker.

    A download that pip misses it downloads again, so these go in two steps: first what makes pip
    find them, then, after whoever found them has opened them, the rest. A built wheel that pip has
    chosen it must still find at the end of its run, so wheels stay while any pip runs. Logs say who
    runs, so they stay until nobody has written to them for a day.

    Args:
        cache: the cache.
        max_age: seconds unused after which an entry goes.
        max_size: bytes that may remain.
        dry_run: only count.

    Raises:
        UserError: it cannot be read or written to.
    """
    with _reading(cache), _alone(cache, dry_run=dry_run) as now:
        entries = [entry for entry in scan(cache) if not _still_written(entry, now)]
        chosen = victims(entries, now=now, max_age=max_age, max_size=max_size)
        if dry_run:
            return Pruned(len(chosen), sum(entry.size for entry in chosen), 0)
        gone = [entry for entry in chosen if entry.kind != "wheels"]
        _delete(entry.files[0] for entry in gone)
        if gone and is_busy(cache, _clock(cache)):
            time.sleep(_GRACE)
        _delete(path for entry in gone for path in entry.files[1:])
        for entry in chosen:
            if entry.kind == "wheels" and not is_busy(cache, _clock(cache)):
                _delete(entry.files)
                gone.append(entry)
        _remove_empty({entry.files[0].parent for entry in gone}, cache)
        return Pruned(len(gone), sum(entry.size for entry in gone), len(chosen) - len(gone))


def _still_written(entry: Entry, now: float) -> bool:
    return entry.kind == "runs" and now - entry.used < _LOG_REST


def _delete(paths: Iterable[Path]) -> None:
    """Delete files, many at once: a network volume takes its time for each."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda path: path.unlink(missing_ok=True), paths):
            pass


def _remove_empty(folders: set[Path], cache: Path) -> None:
    """Remove folders and those above them that are left empty, up to the cache."""
    while folders:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            emptied = zip(folders, pool.map(_removed, folders), strict=True)
            above = {folder.parent for folder, removed in emptied if removed}
        folders = {folder for folder in above if cache in folder.parents}


def _removed(folder: Path) -> bool:
    """Remove a folder if it is empty; whether it was."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _clock(cache: Path) -> float:
    """The time by the clock that stamps the volume's files, which may be another machine's."""
    probe = cache / f".clock-{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def _alone(cache: Path, *, dry_run: bool) -> Iterator[float]:
    """Hold off other prunes of the same cache; gives the volume's time."""
    if dry_run or not cache.exists():
        yield time.time()
        return
    with (cache / ".prune.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another prune of this cache is running", location=str(cache), hint="let it finish"
            ) from None
        except OSError:
            pass  # a network file system without locks: deleting twice does no harm
        yield _clock(cache)


@contextmanager
def _reading(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the pip cache cannot be used: {(error.strerror or str(error)).lower()}",
            location=str(cache),
            hint="check that the volume is mounted writable for this user",
        ) from None
