"""How a container starts, and what it holds while it idles, beside the usual way.

    python -m benchmarks.runtime [NAME] [--usual IMAGE] [--rounds 5]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout;
IMAGE is one of `benchmarks/usual`, by default built from the same sources and model. Needs root,
which alone can empty the page cache. Each round starts both, after one that is not counted. Prints
the ratios of the medians and writes all figures to `benchmarks/results/runtime.json`. Exit code 1
when a ratio misses its limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.containers import Started, copied_out, image_of, seconds_to_answer, start
from benchmarks.contestants import build_usual
from benchmarks.record import Ratio, report
from scripts.host.config.load import load
from scripts.host.console import note
from tests.support.worker import free_port

HUB = "/opt/huggingface"
DROP = Path("/proc/sys/vm/drop_caches")
LIMITS = {
    "API answers, warm page cache": 0.6,
    "API answers, cold page cache": 0.6,
    "first picture, warm page cache": 0.7,
    "memory at idle": 0.9,
}
CPU = ("--use-cpu", "all", "--no-half", "--precision", "full", "--skip-torch-cuda-test")


USUAL = "a1111-worker-usual:cpu"
Found = TypeVar("Found")
SIDES = ("ours", "usual")


@dataclass(frozen=True)
class Images:
    """The two that are started.

    Args:
        ours: with the tokenizer in its Hub cache.
        usual: without; its first start asks the Hub, which is not what is measured here.
        hub: a copy of our Hub cache, lent to the usual one.
    """

    ours: str
    usual: str
    hub: Path

    def words(self, side: str, port: int) -> list[str]:
        """What `docker run` is given to have one of them serve."""
        if side == "ours":
            return [f"--env=WEBUI_PORT={port}", "--env=METRICS_PORT=0", self.ours]
        offline = ("--env=HF_HUB_OFFLINE=1", "--env=TRANSFORMERS_OFFLINE=1")
        lent = (f"--volume={self.hub}:{HUB}", f"--env=HF_HOME={HUB}", *offline)
        return [*lent, self.usual, "/start.sh", "--port", str(port), *CPU]


def in_turns(rounds: int, work: Callable[[str], Found]) -> dict[str, list[Found]]:
    """What each side's work gave, in every round; no side always comes first."""
    found: dict[str, list[Found]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side in SIDES if turn % 2 else reversed(SIDES):
            found[side].append(work(side))
            note(f"{side}: {found[side][-1]}")
    return found


def warm_start(images: Images, side: str) -> Started:
    """A start with everything in the page cache."""
    os.sync()
    port = free_port()
    return start(images.words(side, port), port)


def cold_start(images: Images, side: str) -> float:
    """Seconds to the first answer when everything comes from the disk.

    https://docs.kernel.org/admin-guide/sysctl/vm.html#drop-caches
    """
    os.sync()
    DROP.write_text("3")
    port = free_port()
    return seconds_to_answer(images.words(side, port), port)


def measured(images: Images, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Every figure of every round, by what it is and by side; one round goes before."""
    in_turns(1, lambda side: warm_start(images, side))
    warm = in_turns(rounds, lambda side: warm_start(images, side))
    return {
        "API answers, warm page cache": {k: [run.answers for run in warm[k]] for k in SIDES},
        "API answers, cold page cache": in_turns(rounds, lambda side: cold_start(images, side)),
        "first picture, warm page cache": {k: [run.picture for run in warm[k]] for k in SIDES},
        "memory at idle": {k: [float(run.memory) for run in warm[k]] for k in SIDES},
    }


def ratio(what: str, runs: Mapping[str, Sequence[float]], limit: float) -> Ratio:
    """Our median in theirs."""
    ours, usual = (statistics.median(runs[side]) for side in SIDES)
    return Ratio(f"{what}: ours / usual", ours / usual, limit)


def main() -> int:
    """Measure, print, write; 1 when a promise is not kept."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("name", nargs="?")
    words.add_argument("--usual")
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    if not os.access(DROP, os.W_OK):
        words.error("only root can empty the page cache: run it with sudo")
    ours = image_of("cpu", given.name)
    if not given.usual:
        build_usual(load("cpu"), USUAL, {})
    with TemporaryDirectory() as folder:
        copied_out(ours, HUB, folder)
        images = Images(ours, given.usual or USUAL, Path(folder, Path(HUB).name))
        runs = measured(images, given.rounds)
    times = [
        {"name": what, "side": side, "values": values}
        for what, sides in runs.items()
        for side, values in sides.items()
    ]
    ratios = [ratio(what, runs[what], limit) for what, limit in LIMITS.items()]
    return report("runtime", ratios, times)


if __name__ == "__main__":
    sys.exit(main())
