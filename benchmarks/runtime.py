"""Compare how a container starts, and its memory while it idles, with the baseline.

    python -m benchmarks.runtime [NAME] [--baseline IMAGE] [--rounds 5]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout;
IMAGE is one of `benchmarks/baseline`, by default built from the same sources and model. Needs root,
which alone can empty the page cache. Each round starts both, after one that is not counted. Prints
the ratios of the medians and writes all figures to `benchmarks/results/runtime.json`. Exit code 1
when a ratio misses its limit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.candidates import build_baseline
from benchmarks.compare import Measurement, Value, interleave
from benchmarks.containers import Start, copy_out, image_of, seconds_to_answer, start
from benchmarks.record import Ratio, make_parser, report
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from scripts.host.console import note
from tests.support.worker import free_port

HUB = "/opt/huggingface"
DROP = Path("/proc/sys/vm/drop_caches")
LIMITS = {
    "API answers, warm page cache": 0.42,
    "API answers, cold page cache": 0.65,
    "first picture, warm page cache": 0.6,
    "memory at idle": 1.05,
}
CPU = ("--use-cpu", "all", "--no-half", "--precision", "full", "--skip-torch-cuda-test")
BASELINE_TAG = "a1111-worker-baseline:cpu"
SIDES = ("ours", "baseline")


@dataclass(frozen=True)
class Images:
    """The two images that are started.

    Args:
        ours: with the tokenizer in its Hub cache.
        baseline: without; its first start would download it, which is not what is measured here.
        hub: a copy of our Hub cache, mounted into the baseline.
    """

    ours: str
    baseline: str
    hub: Path

    def arguments(self, side: str, port: int) -> list[str]:
        """Return the arguments of `docker run` for one of them."""
        if side == "ours":
            return [f"--env=WEBUI_PORT={port}", "--env=METRICS_PORT=0", self.ours]
        offline = ("--env=HF_HUB_OFFLINE=1", "--env=TRANSFORMERS_OFFLINE=1")
        mounted = (f"--volume={self.hub}:{HUB}", f"--env=HF_HOME={HUB}", *offline)
        return [*mounted, self.baseline, "/start.sh", "--port", str(port), *CPU]


def each_side(rounds: int, work: Callable[[str], Value]) -> dict[str, list[Value]]:
    """Interleave both sides, printing what each returned."""

    def run(side: str, _turn: int) -> Value:
        found = work(side)
        note(f"{side}: {found}")
        return found

    return interleave({side: partial(run, side) for side in SIDES}, rounds)


def warm_start(images: Images, side: str) -> Start:
    """Start with everything in the page cache."""
    os.sync()
    port = free_port()
    return start(images.arguments(side, port), port)


def cold_start(images: Images, side: str) -> float:
    """Return the seconds to the first answer when everything is read from the disk.

    https://docs.kernel.org/admin-guide/sysctl/vm.html#drop-caches
    """
    os.sync()
    DROP.write_text("3")
    port = free_port()
    return seconds_to_answer(images.arguments(side, port), port)


def measure_starts(images: Images, rounds: int) -> list[Measurement]:
    """Measure warm and cold starts, after one round that is not counted."""
    each_side(1, lambda side: warm_start(images, side))
    warm = each_side(rounds, lambda side: warm_start(images, side))
    cold = each_side(rounds, lambda side: cold_start(images, side))
    found = []
    for side in SIDES:
        values: dict[str, list[float]] = {
            "API answers, warm page cache": [each.answers for each in warm[side]],
            "API answers, cold page cache": cold[side],
            "first picture, warm page cache": [each.image for each in warm[side]],
            "memory at idle": [float(each.memory) for each in warm[side]],
        }
        found += [
            Measurement(what, side, "bytes" if what == "memory at idle" else "s", tuple(each))
            for what, each in values.items()
        ]
    return sorted(found, key=lambda each: list(LIMITS).index(each.quantity))


def main() -> int:
    """Measure, print, write; 1 when a ratio misses its limit."""
    parser = make_parser(__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--baseline")
    options = parser.parse_args()
    if not os.access(DROP, os.W_OK):
        parser.error("only root can empty the page cache: run it with sudo")
    ours = image_of("cpu", options.name)
    if not options.baseline:
        build_baseline(resolve(load("cpu")), BASELINE_TAG, {})
    with TemporaryDirectory() as folder:
        copy_out(ours, HUB, folder)
        baseline = options.baseline or BASELINE_TAG
        images = Images(ours, baseline, Path(folder, Path(HUB).name))
        found = measure_starts(images, options.rounds)
    medians = {(each.quantity, each.candidate): each.median for each in found}
    ratios = [
        Ratio(f"{what}: ours / baseline", medians[what, "ours"] / medians[what, "baseline"], limit)
        for what, limit in LIMITS.items()
    ]
    return report("runtime", ratios, found)


if __name__ == "__main__":
    sys.exit(main())
