"""Measure what is waited for every day: the task list, a task's help, and a smoke test.

    python -m benchmarks.everyday [NAME] [--rounds 5]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout.
Prints the figures and writes them to `benchmarks/results/everyday.json`. Exit code 1 when one
misses its limit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.compare import Measurement, measure, seconds
from benchmarks.containers import image_of
from benchmarks.record import Ratio, make_parser, report
from scripts.host.config.load import ROOT

HELPED = ("build", "push", "models.prefetch", "doctor", "lint")
HELP_LIMIT, SMOKE_LIMIT = 0.25, 60.0  # seconds


def run(command: Sequence[str]) -> None:
    """Run a command.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-1000:])


def measure_command(name: str, command: Sequence[str], rounds: int) -> Measurement:
    """Measure the seconds of a command, from start to end of its process."""
    return measure(name, {"ours": lambda _: seconds(lambda: run(command))}, rounds)["ours"]


def main() -> int:
    """Measure, print, write; 1 when a limit is missed."""
    parser = make_parser(__doc__)
    parser.add_argument("name", nargs="?")
    options = parser.parse_args()
    helped = {"invoke --list": ["--list"]}
    helped |= {f"invoke --help {task}": ["--help", task] for task in HELPED}
    found = [
        measure_command(name, [sys.executable, "-m", "invoke", *arguments], options.rounds)
        for name, arguments in helped.items()
    ]
    ratios = [Ratio(f"{each.quantity}, s", each.median, HELP_LIMIT) for each in found]
    with tempfile.TemporaryDirectory() as reports:
        image = ("--image", image_of("cpu", options.name), "--reports", reports)
        command = [sys.executable, "-m", "nox", "-s", "smoke", "--", "--variant", "cpu", *image]
        smoke = measure_command("smoke session", command, options.rounds)
    ratios.append(Ratio("smoke session, cpu, to its verdict, s", smoke.median, SMOKE_LIMIT))
    return report("everyday", ratios, [*found, smoke])


if __name__ == "__main__":
    sys.exit(main())
