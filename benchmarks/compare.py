"""Run candidates in turns, so that a busy moment hits all of them, and keep every value."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Measurement:
    """Values of one quantity for one candidate.

    Args:
        quantity: what was measured, for example `clean build`.
        candidate: `ours`, `baseline`, or the name of another tool or case.
        unit: `s`, `bytes` or `layers`.
        values: one for each round.
    """

    quantity: str
    candidate: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over all rounds."""
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        """Smallest value, which a busy machine disturbs least."""
        return min(self.values)

    def as_row(self) -> dict[str, Any]:
        """Return an entry of `times` in `results/NAME.json`."""
        return {
            "quantity": self.quantity,
            "candidate": self.candidate,
            "unit": self.unit,
            "median": self.median,
            "values": self.values,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Measurement:
        """Read an entry of `times` in `results/NAME.json`."""
        return cls(row["quantity"], row["candidate"], row["unit"], tuple(row["values"]))


def interleave(
    candidates: Mapping[str, Callable[[int], Value]], rounds: int
) -> dict[str, list[Value]]:
    """Run every candidate in every round, each round beginning with another one.

    Args:
        candidates: functions of the round's number, by name.
        rounds: how often.

    Returns:
        What each candidate returned, by name.
    """
    found: dict[str, list[Value]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(candidates[name](turn))
    return found


def measure(
    quantity: str,
    candidates: Mapping[str, Callable[[int], float]],
    rounds: int,
    *,
    unit: str = "s",
) -> dict[str, Measurement]:
    """Interleave candidates that return one number; the measurements by candidate."""
    return {
        name: Measurement(quantity, name, unit, tuple(values))
        for name, values in interleave(candidates, rounds).items()
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


@dataclass(frozen=True)
class Command:
    """A candidate that is a command line.

    Args:
        name: of the candidate.
        line: shell command line, run in an empty folder.
        tool: program it needs; a candidate whose tool is missing is left out.
    """

    name: str
    line: str
    tool: str = "sh"


RECORD_PEAK = (
    "import resource, pathlib;"
    "pathlib.Path('peak').write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss));"
)
"""Python statements that record the process's largest resident set for `measure_commands`."""


def measure_commands(
    quantity: str,
    commands: Sequence[Command],
    folder: Path,
    rounds: int,
    environment: Mapping[str, str],
) -> dict[str, Measurement]:
    """Interleave command lines.

    Args:
        quantity: name of the measurements.
        commands: the candidates.
        folder: scratch space; each command runs in an empty folder below it.
        rounds: how often.
        environment: added to this process's own.

    Returns:
        Seconds by name; where a command recorded its peak memory, also `NAME, peak` in bytes.
    """
    peaks: dict[str, list[float]] = {}

    def run(command: Command, _turn: int) -> float:
        place = folder / command.name.replace(" ", "-")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        os.sync()  # one candidate's unwritten data must not slow another
        took = seconds(lambda: _run_shell(command, place, environment))
        recorded = place / "peak"
        if recorded.exists():
            peaks.setdefault(command.name, []).append(int(recorded.read_text()) * 1024.0)
        shutil.rmtree(place)
        return took

    present = [command for command in commands if shutil.which(command.tool)]
    candidates = {each.name: partial(run, each) for each in present}
    found = measure(quantity, candidates, rounds)
    for name, values in peaks.items():
        found[f"{name}, peak"] = Measurement(f"{quantity}, peak memory", name, "bytes", (*values,))
    return found


def _run_shell(command: Command, folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-ec", command.line],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command.name} failed: {done.stderr.strip()[-500:]}")
