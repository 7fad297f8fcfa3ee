"""What is waited for every day: the menu, a task's help, and the verdict about a built image.

    python -m benchmarks.everyday [NAME] [--rounds 5]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout.
Prints the figures and writes them to `benchmarks/results/everyday.json`. Exit code 1 when one
misses its limit.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.containers import image_of
from benchmarks.record import Ratio, report
from scripts.host.config.load import ROOT
from scripts.host.console import note

HELPED = ("build", "push", "models.prefetch", "doctor", "lint")
WORDS_LIMIT, VERDICT_LIMIT = 0.25, 60.0  # seconds


def seconds_of(command: Sequence[str], rounds: int) -> list[float]:
    """Seconds of a command, whole process; the end where it fails."""
    found = []
    for _ in range(rounds):
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found.append(time.monotonic() - began)
        if done.returncode:
            raise SystemExit((done.stdout + done.stderr)[-1000:])
    return found


def main() -> int:
    """Measure, print, write; 1 when a limit is missed."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("name", nargs="?")
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    invoke = (sys.executable, "-m", "invoke")
    found = {"invoke --list": seconds_of((*invoke, "--list"), given.rounds)}
    for task in HELPED:
        found[f"invoke --help {task}"] = seconds_of((*invoke, "--help", task), given.rounds)
    ratios = [
        Ratio(f"{name}, s", statistics.median(seconds), WORDS_LIMIT)
        for name, seconds in found.items()
    ]
    smoke = (sys.executable, "-m", "nox", "-s", "smoke", "--", "--variant", "cpu")
    with tempfile.TemporaryDirectory() as reports:
        image = ("--image", image_of("cpu", given.name), "--reports", reports)
        found["smoke session"] = seconds_of((*smoke, *image), given.rounds)
    note(f"smoke session: {found['smoke session']}")
    verdict = statistics.median(found["smoke session"])
    ratios.append(Ratio("smoke session, cpu, to its verdict, s", verdict, VERDICT_LIMIT))
    return report("everyday", ratios, [{"name": k, "seconds": v} for k, v in found.items()])


if __name__ == "__main__":
    sys.exit(main())
