"""How fast images are built and pushed, and how large they are, beside the usual Dockerfile.

    python -m benchmarks.build [QUESTION...] [--folder DIR] [--rounds 3] [--variant cuda128]

The questions are clean, script, pin, nothing, bytes, push, models and variants; by default all.
Answers to others, given earlier, are kept. Both sides build from the same inputs in an engine of
their own: what IMAGE_CONFIG names, or stand-ins. Needs root and, below DIR, about 40 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import building, growth, pushing
from benchmarks.answers import Answer, ratios
from benchmarks.record import RESULTS, report
from benchmarks.yard import Yard, yard
from scripts.host.console import note

QUESTIONS: dict[str, Callable[[Yard, int], list[Answer]]] = {
    "clean": building.clean,
    "script": building.script,
    "pin": building.pin,
    "nothing": building.nothing,
    "bytes": building.added_bytes,
    "push": pushing.changes,
    "models": growth.models,
    "variants": pushing.variants,
}


def earlier() -> list[Answer]:
    """What earlier runs found."""
    path = RESULTS / "build.json"
    if not path.exists():
        return []
    return [
        Answer(each["question"], each["what"], each["unit"], tuple(each["values"]))
        for each in json.loads(path.read_text(encoding="utf-8"))["times"]
    ]


def main() -> None:
    """Ask, print, write."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help="by default all")
    words.add_argument("--folder", type=Path, help="scratch space that later runs use again")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--variant", default="cuda128")
    given = words.parse_args()
    asked = given.question or list(QUESTIONS)
    found = [answer for answer in earlier() if answer.question not in asked]
    with (
        tempfile.TemporaryDirectory(prefix="yard-") as scratch,
        yard((given.folder or Path(scratch)).resolve(), given.variant) as here,
    ):
        for question in asked:
            note(f"-- {question}")
            found += QUESTIONS[question](here, given.rounds)
    order = list(QUESTIONS)
    found.sort(key=lambda answer: order.index(answer.question))
    sys.exit(report("build", ratios(found), [answer.as_row() for answer in found]))


if __name__ == "__main__":
    main()
