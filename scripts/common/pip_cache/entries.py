"""What a pip cache consists of: entries that are used, and deleted, together.

There are three kinds: `http` (what was downloaded, a file of metadata and one of content), `wheels`
(what was built, a folder each) and `runs` (the log of each worker's pip, see `pip_runs`). Neither
name nor age of a file says when it was used last; the later of access and modification time does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.common.pip_cache.log_statistics import RUNS

Kind = Literal["http", "wheels", "runs"]

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
    """What is used, and deleted, together.

    Args:
        kind: of the cache.
        path: the metadata file of a download, the folder of a built wheel, a log.
        name: for a person.
        files: all of it, in the order it may be deleted.
        size: bytes.
        used: when it was used last, seconds since the epoch.
    """

    kind: Kind
    path: Path
    name: str
    files: tuple[Path, ...]
    size: int
    used: float


def scan(cache: Path) -> Iterator[Entry]:
    """Every entry, in no order. What vanishes meanwhile is passed over."""
    for folder, kind in _FOLDERS.items():
        for path, files in _leaves(cache / folder):
            yield from _ENTRIES[kind](path, files)


def _leaves(folder: Path) -> Iterator[tuple[Path, dict[str, os.stat_result]]]:
    """Every folder below that holds files, with their states; faster than Path on many files."""
    stack = [str(folder)]
    while stack:
        current = stack.pop()
        files: dict[str, os.stat_result] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(current) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    stack.append(item.path)
                    continue
                with suppress(FileNotFoundError):
                    files[item.name] = item.stat(follow_symlinks=False)
        if files:
            yield Path(current), files


def _wheel(folder: Path, files: dict[str, os.stat_result]) -> Iterator[Entry]:
    wheels = sorted(name for name in files if name.endswith(".whl"))
    paths = tuple(folder / name for name in sorted(files))
    yield Entry(
        "wheels", folder, wheels[0] if wheels else folder.name, paths, *_sum(files.values())
    )


def _logs(folder: Path, files: dict[str, os.stat_result]) -> Iterator[Entry]:
    for name, state in files.items():
        # Reading the statistics is no use of a log: only what is written to it counts.
        path = folder / name
        yield Entry("runs", path, name, (path,), state.st_size, state.st_mtime)


def _downloads(folder: Path, files: dict[str, os.stat_result]) -> Iterator[Entry]:
    names = {name.removesuffix(_BODY) for name in files}
    for name in names:
        parts = [part for part in (name, name + _BODY) if part in files]
        paths = tuple(folder / part for part in parts)
        states = [files[part] for part in parts]
        yield Entry("http", folder / name, name, paths, *_sum(states))


_ENTRIES: Final[dict[Kind, Callable[[Path, dict[str, os.stat_result]], Iterator[Entry]]]] = {
    "http": _downloads,
    "wheels": _wheel,
    "runs": _logs,
}


def _sum(states: Iterable[os.stat_result]) -> tuple[int, float]:
    rows = list(states)
    return sum(row.st_size for row in rows), max(max(row.st_atime, row.st_mtime) for row in rows)
