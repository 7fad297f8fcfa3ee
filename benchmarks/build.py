"""Compare how fast images are built and pushed, and how large they are, with the baseline.

    python -m benchmarks.build [QUESTION...] [--folder DIR] [--rounds 3] [--variant cuda128]

The questions are clean, script, pin, nothing, bytes, push, models and variants; by default all.
Results of the others from earlier runs are kept. Both candidates build from the same inputs in an
engine of their own: from what IMAGE_CONFIG names, or from stand-ins. Needs root and, below DIR,
about 40 GB.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import build_changes, build_growth
from benchmarks.compare import Measurement
from benchmarks.environment import BuildEnvironment, build_environment
from benchmarks.record import RESULTS, Ratio, make_parser, report
from scripts.host.console import note

QUESTIONS: dict[str, Callable[[BuildEnvironment, int], list[Measurement]]] = {
    "clean": build_changes.clean,
    "script": build_changes.script,
    "pin": build_changes.pin,
    "nothing": build_changes.nothing,
    "bytes": build_changes.added_bytes,
    "push": build_growth.pushes,
    "models": build_growth.models,
    "variants": build_growth.variants,
}

Key = tuple[str, str]  # quantity and candidate
QUOTIENTS: tuple[tuple[str, Key, Key, float], ...] = (
    ("clean build / baseline", ("clean", "ours"), ("clean", "baseline"), 0.8),
    (
        "clean build with the models stored / baseline",
        ("clean", "ours, models stored"),
        ("clean", "baseline"),
        0.6,
    ),
    (
        "rebuild after a script edit / baseline",
        ("script", "ours"),
        ("script", "baseline"),
        0.1,
    ),
    (
        "rebuild after a script edit / baseline clean build",
        ("script", "ours"),
        ("clean", "baseline"),
        0.1,
    ),
    ("rebuild after a pin change / baseline", ("pin", "ours"), ("pin", "baseline"), 0.5),
    (
        "bytes over the base, model apart / baseline",
        ("bytes", "ours"),
        ("bytes", "baseline"),
        0.7,
    ),
    (
        "push after a pin change / that layer alone, bytes",
        ("push", "ours, pin change"),
        ("push", "ours, the changed layer"),
        1.01,
    ),
    (
        "seconds a GB of models, many / few",
        ("models", "the most, a GB over none"),
        ("models", "some, a GB over none"),
        1.2,
    ),
    (
        "pushing four more variants / their own layers, bytes",
        ("variants", "four more"),
        ("variants", "their own layers"),
        1.1,
    ),
)
DIFFERENCES: tuple[tuple[str, Key, Key, float], ...] = (
    ("nothing changed, over plain docker build, s", ("nothing", "ours"), ("nothing", "plain"), 1.5),
    (
        "nothing changed with the most models, over none, s",
        ("models", "the most, again"),
        ("models", "none, again"),
        0.5,
    ),
)
VALUES: tuple[tuple[str, Key, float], ...] = (
    ("layers rebuilt by a pin change", ("pin", "ours, new layers"), 1),
    ("push after a script edit, bytes", ("push", "ours, script edit"), 1e6),
)


def ratios(measurements: Iterable[Measurement]) -> list[Ratio]:
    """Hold the measurements to every limit that they suffice for."""
    found = {(each.quantity, each.candidate): each.median for each in measurements}
    judged = [
        Ratio(what, found[top] / found[bottom], limit)
        for what, top, bottom, limit in QUOTIENTS
        if {top, bottom} <= found.keys()
    ]
    judged += [
        Ratio(what, found[more] - found[less], limit)
        for what, more, less, limit in DIFFERENCES
        if {more, less} <= found.keys()
    ]
    judged += [Ratio(what, found[key], limit) for what, key, limit in VALUES if key in found]
    return judged


def read_earlier() -> list[Measurement]:
    """Read the measurements of earlier runs."""
    path = RESULTS / "build.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["times"]
    return [Measurement.from_row(row) for row in rows]


def main() -> int:
    """Measure, print, write; 1 when a ratio misses its limit."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help="by default all")
    parser.add_argument("--folder", type=Path, help="scratch space that later runs use again")
    parser.add_argument("--variant", default="cuda128")
    options = parser.parse_args()
    questions = options.question or list(QUESTIONS)
    found = [each for each in read_earlier() if each.quantity not in questions]
    with tempfile.TemporaryDirectory(prefix="build-") as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        with build_environment(folder, options.variant) as environment:
            for question in questions:
                note(f"-- {question}")
                found += QUESTIONS[question](environment, options.rounds)
    order = list(QUESTIONS)
    found.sort(key=lambda each: order.index(each.quantity))
    return report("build", ratios(found), found)


if __name__ == "__main__":
    sys.exit(main())
