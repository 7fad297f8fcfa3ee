"""Runs command lines against each other in turns, so that a busy moment hits all of them alike."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runner:
    """One contestant.

    Args:
        name: what the table calls it.
        command: a shell command line, run in an empty folder.
        tool: the program it needs; without it the contestant is left out.
        cleans: whether the folder is emptied before each run, and removed after it.
    """

    name: str
    command: str
    tool: str = "sh"
    cleans: bool = True


@dataclass(frozen=True)
class Measured:
    """What a contestant needed, over all rounds.

    Args:
        name: its name.
        seconds: median of whole-process wall time.
        fastest: the best round, which a busy machine disturbs least.
        peak: largest resident set of any of its processes, in bytes.
    """

    name: str
    seconds: float
    fastest: float
    peak: int


def race(
    runners: Sequence[Runner], folder: Path, rounds: int, environment: Mapping[str, str]
) -> dict[str, Measured]:
    """Run every contestant in every round.

    Args:
        runners: the contestants; those whose tool is missing are left out.
        folder: scratch space; each contestant gets a folder below it.
        rounds: how often.
        environment: added to this process's own.

    Returns:
        By name.
    """
    present = [runner for runner in runners if shutil.which(runner.tool)]
    times: dict[str, list[float]] = {runner.name: [] for runner in present}
    peaks: dict[str, int] = dict.fromkeys(times, 0)
    for turn in range(rounds):
        for runner in present[turn % len(present) :] + present[: turn % len(present)]:
            seconds, peak = _run(runner, folder / runner.name.replace(" ", "-"), environment)
            times[runner.name].append(seconds)
            peaks[runner.name] = max(peaks[runner.name], peak)
    return {
        name: Measured(name, statistics.median(each), min(each), peaks[name])
        for name, each in times.items()
    }


def _run(runner: Runner, folder: Path, environment: Mapping[str, str]) -> tuple[float, int]:
    if runner.cleans:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.sync()  # nobody pays for what another one wrote
    started = time.monotonic()
    process = subprocess.Popen(
        ["sh", "-ec", runner.command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{runner.name} failed: {errors.strip()[-500:]}")
    peak = _peak_of(folder)
    if runner.cleans:
        shutil.rmtree(folder)
    return seconds, peak


def _peak_of(folder: Path) -> int:
    """What the contestant itself noted, by `RSS` below; 0 where it did not."""
    noted = folder / "rss"
    return int(noted.read_text()) * 1024 if noted.exists() else 0


RSS = (
    "import resource, pathlib;"
    "pathlib.Path('rss').write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss));"
)
"""Python that notes its own largest resident set for `race`."""


def timed(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        work()
        times.append(time.monotonic() - started)
    return statistics.median(times)
