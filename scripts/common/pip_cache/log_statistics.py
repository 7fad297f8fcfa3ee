"""Read pip's own logs of its runs: hits and misses of the cache, and whether a pip is running.

Every worker lets pip write to `CACHE/runs/HOST.log` (pip's `--log`, here through PIP_LOG).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

RUNS: Final = "runs"
"""Folder of the logs, inside the cache."""

QUIET: Final = 600.0
"""Seconds without a line after which a run without an end counts as dead."""

_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{3}) (.*)")
_START: Final = re.compile(r"Initialized build tracking")  # once a run; nested ones enter it
_END: Final = re.compile(r"Removed build tracker")
_FETCH: Final = re.compile(
    r"\s*(Using cached|Downloading) (?!wheel link)(\S+)(?: \(([\d.]+) (bytes|kB|MB|GB)\))?"
)
_BUILD: Final = re.compile(r"\s*Building wheel for (\S+) .*: (started|finished)")
_UNITS: Final = {"bytes": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
# A build environment is a pip of its own that logs to the same file, and its output is logged
# again by the pip that started it: the same line twice within this time is one event.
_ECHO: Final = timedelta(seconds=2)
_TAIL: Final = 4096


@dataclass(frozen=True)
class RunStatistics:
    """Use of the cache by all runs of pip together.

    Args:
        runs: number of them.
        hits: files that were in the cache.
        misses: files that had to be downloaded.
        hit_rate: share of hits among all files, 0 to 1; 0 without files.
        saved_bytes: size of the hits, as far as pip logs it.
        saved_seconds: time that downloading and building the hits would have taken, at the speed
            with which the misses were downloaded and built.
    """

    runs: int = 0
    hits: int = 0
    misses: int = 0
    hit_rate: float = 0.0
    saved_bytes: int = 0
    saved_seconds: float = 0.0


def read_runs(cache: Path) -> RunStatistics:
    """Add up the logs of a cache; 0 everywhere without logs."""
    counter = _Counter()
    for log in _logs(cache):
        try:
            with log.open(encoding="utf-8", errors="replace") as lines:
                counter.read(lines)
        except OSError:
            continue  # another worker's, or gone meanwhile
    return counter.result()


def is_busy(cache: Path, now: float) -> bool:
    """Return whether a pip on any worker is using the cache.

    Args:
        cache: its folder.
        now: time by the clock that stamps its files, seconds since the epoch.
    """
    return any(_is_open(log, now) for log in _logs(cache))


def _logs(cache: Path) -> list[Path]:
    try:
        return sorted((cache / RUNS).glob("*.log"))
    except OSError:
        return []


def _is_open(log: Path, now: float) -> bool:
    """Return whether a run has begun, and neither ended nor been silent for too long."""
    try:
        if now - log.stat().st_mtime > QUIET:
            return False
        with log.open("rb") as stream:
            stream.seek(max(stream.seek(0, 2) - _TAIL, 0))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    match = _STAMP.match(lines[-1]) if lines else None
    return not (match and _END.match(match[3]))


class _Counter:
    """Adds up any number of logs."""

    def __init__(self) -> None:
        self.runs = self.hits = self.misses = 0
        self.saved = self.fetched = 0
        self.fetch_seconds = 0.0
        self.builds: dict[str, float] = {}
        self.hit_names: list[str] = []

    def read(self, lines: Iterable[str]) -> None:
        """Add the lines of one log."""
        seen: dict[str, datetime] = {}
        started: dict[str, datetime] = {}
        fetching: tuple[datetime, int] | None = None
        for moment, text in _timed_lines(lines):
            if fetching:
                self.fetch_seconds += (moment - fetching[0]).total_seconds()
                self.fetched += fetching[1]
                fetching = None
            if moment - seen.get(text.strip(), datetime.min) < _ECHO:
                continue
            if match := _FETCH.match(text):
                seen[text.strip()] = moment
                size = round(float(match[3]) * _UNITS[match[4]]) if match[3] else 0
                if match[1] == "Downloading":
                    self.misses += 1
                    fetching = (moment, size)
                else:
                    self.hits += 1
                    self.saved += size
                    self.hit_names.append(_project(match[2]))
            elif match := _BUILD.match(text):
                name = _project(match[1])
                if match[2] == "started":
                    started[name] = moment
                elif name in started:
                    self.builds[name] = (moment - started.pop(name)).total_seconds()
            elif _START.match(text):
                self.runs += 1

    def result(self) -> RunStatistics:
        """Return the sum."""
        speed = self.fetched / self.fetch_seconds if self.fetch_seconds else 0.0
        seconds = self.saved / speed if speed else 0.0
        seconds += sum(self.builds.get(name, 0.0) for name in self.hit_names)
        hit_rate = self.hits / max(self.hits + self.misses, 1)
        return RunStatistics(self.runs, self.hits, self.misses, hit_rate, self.saved, seconds)


def _timed_lines(lines: Iterable[str]) -> Iterator[tuple[datetime, str]]:
    for line in lines:
        if match := _STAMP.match(line):
            moment = datetime.fromisoformat(match[1]) + timedelta(milliseconds=int(match[2]))
            yield moment, match[3]


def _project(name: str) -> str:
    """Return the normalised project name (PEP 503) of a wheel, an archive or a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"-\d", name)[0]).lower()
