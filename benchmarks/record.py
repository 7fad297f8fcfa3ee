"""Record a benchmark: its ratios against their limits, the machine, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.compare import Measurement
from scripts.host.console import say, table
from scripts.host.interruption import raise_on_signals

RESULTS: Final = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Ratio:
    """A figure with a limit.

    Args:
        what: the figure in words.
        value: as measured.
        limit: largest allowed value, or smallest.
        is_most: whether the limit is the largest allowed value.
    """

    what: str
    value: float
    limit: float
    is_most: bool = True

    @property
    def holds(self) -> bool:
        """Return whether the value is within the limit."""
        return self.value <= self.limit if self.is_most else self.value >= self.limit


def make_parser(description: str | None, *, rounds: int = 5) -> argparse.ArgumentParser:
    """Return a parser whose help is a benchmark's module docstring, with `--rounds`.

    From here on SIGTERM ends the benchmark as Ctrl-C does, so that it removes its containers.
    """
    raise_on_signals()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def report(name: str, ratios: Sequence[Ratio], measurements: Sequence[Measurement]) -> int:
    """Print the ratios and write everything to `results/NAME.json`.

    Args:
        name: of the benchmark's module.
        ratios: figures with limits.
        measurements: what the ratios are made of.

    Returns:
        An exit code: 1 when a ratio misses its limit.
    """
    rows = [
        (
            ratio.what,
            f"{ratio.value:.3g}",
            f"{'≤' if ratio.is_most else '≥'} {ratio.limit:g}",
            "yes" if ratio.holds else "NO",
        )
        for ratio in ratios
    ]
    say(table(("what", "measured", "limit", "holds"), rows, right=(1, 2)))
    facts = {
        "machine": describe_machine(),
        "ratios": [{**_rounded(asdict(ratio)), "holds": ratio.holds} for ratio in ratios],
        "times": [_rounded(each.as_row()) for each in measurements],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(as_json(facts), encoding="utf-8")
    return 0 if all(ratio.holds for ratio in ratios) else 1


def as_json(facts: Mapping[str, Any]) -> str:
    """Return JSON with one line for each list entry, which keeps diffs small."""
    parts = []
    for key, value in facts.items():
        if isinstance(value, list):
            lines = ",\n".join(f"    {json.dumps(each, ensure_ascii=False)}" for each in value)
            body = f"[\n{lines}\n  ]"
        else:
            body = json.dumps(value, ensure_ascii=False)
        parts.append(f"  {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def describe_machine() -> dict[str, Any]:
    """Return the machine's properties that figures depend on."""
    return {
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpu": _cpu_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": _engine_version(),
    }


def _cpu_name() -> str:
    """Return the processor's name as Linux reports it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _engine_version() -> str | None:
    """Return the Docker engine's version; None where none answers."""
    if not shutil.which("docker"):
        return None
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Round floats to five digits, the precision of the clocks."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
