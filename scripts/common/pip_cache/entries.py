"""Entries of a pip cache, and its size.

An entry is what is used, and deleted, together. There are three kinds: `http` (downloads: a file of
metadata and one of content), `wheels` (built wheels: a folder each) and `runs` (the log of each
worker's pip). Neither name nor age of a file says when it was last used; the later of its access
and modification times does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.log_statistics import RUNS, RunStatistics, read_runs

Kind = Literal["http", "wheels", "runs"]
Files = dict[str, os.stat_result]

KINDS: Final[tuple[Kind, ...]] = ("http", "wheels", "runs")
_BODY: Final = ".body"


@dataclass(frozen=True)
class Entry:
    """Files that are used, and deleted, together.

    Args:
        kind: of entry.
        path: the metadata file of a download, the folder of a built wheel, a log.
        name: as shown.
        files: all of them, in the order in which they may be deleted.
        size: bytes.
        used: time of the last use, seconds since the epoch.
    """

    kind: Kind
    path: Path
    name: str
    files: tuple[Path, ...]
    size: int
    used: float


@dataclass(frozen=True)
class Stats:
    """Size and use of a cache.

    Args:
        path: its folder.
        sizes: bytes by kind.
        entries: number by kind.
        oldest: seconds since the least recently used entry was used, 0 when empty.
        free: bytes free on its file system.
        total: bytes of its file system.
        runs: of pip, that used it.
    """

    path: Path
    sizes: dict[Kind, int]
    entries: dict[Kind, int]
    oldest: float
    free: int
    total: int
    runs: RunStatistics


def measure(cache: Path) -> Stats:
    """Measure a cache; one that does not exist is empty.

    Raises:
        UserError: it cannot be read.
    """
    with cache_errors(cache):
        entries = list(scan(cache))
        disk = os.statvfs(next(path for path in (cache, *cache.parents) if path.exists()))
    oldest = min((entry.used for entry in entries), default=time.time())
    return Stats(
        path=cache,
        sizes={kind: sum(row.size for row in entries if row.kind == kind) for kind in KINDS},
        entries={kind: sum(1 for row in entries if row.kind == kind) for kind in KINDS},
        oldest=max(time.time() - oldest, 0.0) if entries else 0.0,
        free=disk.f_bavail * disk.f_frsize,
        total=disk.f_blocks * disk.f_frsize,
        runs=read_runs(cache),
    )


@contextmanager
def cache_errors(cache: Path) -> Iterator[None]:
    """Turn errors of the file system into a UserError that names the cache."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the pip cache cannot be used: {(error.strerror or str(error)).lower()}",
            location=str(cache),
            hint="check that the volume is mounted writable for this user",
        ) from None


def scan(cache: Path) -> Iterator[Entry]:
    """Yield every entry, in no order. Files that vanish meanwhile are ignored."""
    for name, read in _FOLDERS.items():
        for folder, files in _walk(cache / name):
            yield from read(folder, files)


def _walk(folder: Path) -> Iterator[tuple[Path, Files]]:
    """Yield every folder below that holds files, with their states.

    Faster than Path on many files.
    """
    stack = [str(folder)]
    while stack:
        current = stack.pop()
        files: Files = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(current) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    stack.append(item.path)
                    continue
                with suppress(FileNotFoundError):
                    files[item.name] = item.stat(follow_symlinks=False)
        if files:
            yield Path(current), files


def _downloads(folder: Path, files: Files) -> Iterator[Entry]:
    for name in {name.removesuffix(_BODY) for name in files}:
        parts = {part: files[part] for part in (name, name + _BODY) if part in files}
        yield _entry("http", folder / name, name, folder, parts)


def _wheel(folder: Path, files: Files) -> Iterator[Entry]:
    wheels = sorted(name for name in files if name.endswith(".whl"))
    name = wheels[0] if wheels else folder.name
    yield _entry("wheels", folder, name, folder, dict(sorted(files.items())))


def _logs(folder: Path, files: Files) -> Iterator[Entry]:
    for name, state in files.items():
        # Reading the statistics is no use of a log: only what is written to it counts.
        path = folder / name
        yield Entry("runs", path, name, (path,), state.st_size, state.st_mtime)


def _entry(kind: Kind, path: Path, name: str, folder: Path, files: Files) -> Entry:
    size = sum(state.st_size for state in files.values())
    used = max(max(state.st_atime, state.st_mtime) for state in files.values())
    return Entry(kind, path, name, tuple(folder / file for file in files), size, used)


_FOLDERS: Final[dict[str, Callable[[Path, Files], Iterator[Entry]]]] = {
    "http-v2": _downloads,
    "http": _downloads,
    "wheels": _wheel,
    RUNS: _logs,
}
