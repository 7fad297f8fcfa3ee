"""What a benchmark measured: the promises as ratios, the machine, a table and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from scripts.host.console import say, table

RESULTS: Final = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Ratio:
    """One number that was promised.

    Args:
        what: in words.
        value: as measured.
        limit: what it must reach.
        is_most: whether the limit is the largest allowed value, or the smallest.
    """

    what: str
    value: float
    limit: float
    is_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.value <= self.limit if self.is_most else self.value >= self.limit


def report(name: str, ratios: Sequence[Ratio], times: Sequence[Mapping[str, Any]]) -> int:
    """Print the ratios and keep everything in `results/NAME.json`.

    Args:
        name: of the benchmark's module.
        ratios: what was promised, as measured.
        times: what the ratios were made of, one flat mapping per contestant.

    Returns:
        An exit code: 1 when a promise is not kept.
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
        "machine": machine(),
        "ratios": [{**_rounded(asdict(ratio)), "holds": ratio.holds} for ratio in ratios],
        "times": [_rounded(each) for each in times],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(as_json(facts), encoding="utf-8")
    return 0 if all(ratio.holds for ratio in ratios) else 1


def as_json(facts: Mapping[str, Any]) -> str:
    """JSON with one line per entry, so that a person can read it and a diff stays small."""
    parts = []
    for key, value in facts.items():
        if isinstance(value, list):
            lines = ",\n".join(f"    {json.dumps(each, ensure_ascii=False)}" for each in value)
            body = f"[\n{lines}\n  ]"
        else:
            body = json.dumps(value, ensure_ascii=False)
        parts.append(f"  {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": _engine(),
    }


def _cpu() -> str:
    """The processor's own name, as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _engine() -> str | None:
    """The Docker engine's version; None where none answers."""
    if not shutil.which("docker"):
        return None
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Floats to five digits: no clock here says more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
