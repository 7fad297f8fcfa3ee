"""Entries of a pip cache, and its size.

An entry is what is used, and deleted, together. There are three kinds: `http` (downloads: a file of
metadata and one of content), `wheels` (built wheels: a folder each) and `runs` (the log of each
worker's pip). Neither name nor age of a file says when it was last used; the later of its access
and modification times does.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.log_statistics import RUNS, RunStatistics, read_runs

Kind = Literal["http", "wheels", "runs"]
Files = dict[str, os.stat_result]

KINDS: Final[tuple[Kind, ...]] = ("http", "wheels", "runs")
_FOLDERS: Final[dict[str, Kind]] = {
    "http-v2": "http",
    "http": "http",
    "wheels": "wheels",
    RUNS: "runs",
}
_BODY: Final = ".body"


@dataclass(frozen=True)
class Entry:
    """Files that are used, and deleted, together.

    Args:
        kind: of entry.
        name: as shown.
        files: all of them, in the order in which they may be deleted.
        size: bytes.
        used: time of the last use, seconds since the epoch.
    """

    kind: Kind
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
    for name, kind in _FOLDERS.items():
        for folder, files in _walk(cache / name):
            for entry, parts in _group(kind, folder, files).items():
                states = [files[part] for part in parts]
                # Reading a log is no use of it: only what is written to it counts.
                read = 0.0 if kind == "runs" else max(state.st_atime for state in states)
                yield Entry(
                    kind=kind,
                    name=entry,
                    files=tuple(folder / part for part in parts),
                    size=sum(state.st_size for state in states),
                    used=max(read, *(state.st_mtime for state in states)),
                )


def _group(kind: Kind, folder: Path, files: Files) -> dict[str, list[str]]:
    """Group a folder's files by entry; the metadata of a download comes before its content."""
    names = sorted(files)
    if kind == "wheels":
        return {next((name for name in names if name.endswith(".whl")), folder.name): names}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.removesuffix(_BODY), []).append(name)
    return groups


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
