"""Measure how cost grows with the number of models, of files in pip's cache, and of queued jobs.

    python -m benchmarks.scaling [NAME] [--rounds 5] [--megabytes 64] [--entries 50000]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout; its
real RunPod SDK takes jobs from a stand-in for RunPod. Prints the ratios and writes all times to
`benchmarks/results/scaling.json`. Exit code 1 when a cost grows faster than its limit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.compare import Measurement, measure, seconds
from benchmarks.containers import JOB, image_of, running
from benchmarks.environment import (
    hub_model,
    hub_process,
    make_file,
    run_prefetch,
    write_model_config,
)
from benchmarks.record import Ratio, make_parser, report
from scripts.common.pip_cache.prune import prune
from scripts.host.console import note
from tests.support import runpod
from tests.support.worker import free_port

MODELS = (1, 4, 16)
JOBS = (1, 4, 16, 64)
DAY = 86_400.0


def measure_prefetches(folder: Path, length: int, rounds: int) -> list[Measurement]:
    """Measure `invoke models.prefetch` by number of models, each of `length` bytes."""
    repository = folder / "hub" / "o" / "many"
    models = [
        hub_model("o/many", f"{number}.bin", make_file(repository / f"{number}.bin", length))
        for number in range(max(MODELS))
    ]
    with hub_process(folder / "hub") as url:

        def prefetch(count: int, turn: int) -> float:
            place = folder / f"{count}-{turn}"
            mirrors = {"huggingface": url}
            return run_prefetch(write_model_config(place, models[:count], mirrors=mirrors))[0]

        candidates = {str(count): partial(prefetch, count) for count in MODELS}
        return list(measure("prefetch", candidates, rounds).values())


def measure_prunes(folder: Path, entries: int) -> list[Measurement]:
    """Measure the deletion of every entry of pip's cache, by number of its files."""
    found = []
    for count in (entries // 10, entries):
        cache = folder / f"pip-{count}"
        for number in range(count):
            _add_entry(cache, f"{number:056x}")
        os.sync()
        began = time.monotonic()
        removed = prune(cache, max_age=DAY)
        took = time.monotonic() - began
        if removed.entries != count:
            raise SystemExit(f"{removed.entries} of {count} entries were pruned")
        found.append(Measurement("prune", str(2 * count), "s", (took,)))
    return found


def _add_entry(cache: Path, name: str) -> None:
    """Write a download as pip 25 stores it, unused for ten days: its metadata and its bytes."""
    folder = cache.joinpath("http-v2", *name[-5:])
    folder.mkdir(parents=True, exist_ok=True)
    old = time.time() - 10 * DAY
    for file in (folder / name, folder / f"{name}.body"):
        file.write_bytes(b"0" * 100)
        os.utime(file, (old, old))


def measure_queues(image: str) -> list[Measurement]:
    """Measure the time until all of N jobs are done that were queued at once, by N."""
    found = []
    with runpod.running() as platform:
        variables = {**platform.environment(), "WEBUI_PORT": free_port(), "METRICS_PORT": 0}
        with running(*(f"--env={name}={value}" for name, value in variables.items()), image):
            platform.do(JOB, timeout=300)

            def run_jobs(count: int) -> None:
                names = [platform.send(JOB) for _ in range(count)]
                for name in names:
                    if "images" not in platform.result(name, timeout=300)["output"]:
                        raise SystemExit(f"{name} ended without an image")

            for count in JOBS:
                took = seconds(partial(run_jobs, count))
                found.append(Measurement("queue", str(count), "s", (took,)))
                note(f"{count} jobs: {took:.2f} s")
    return found


def per_unit(found: Sequence[Measurement]) -> float:
    """Divide the cost of one among the most by the cost of one among the fewest."""
    costs = {int(each.candidate): each.median for each in found}
    few, many = min(costs), max(costs)
    return (costs[many] / many) / (costs[few] / few)


def main() -> int:
    """Measure, print, write; 1 when a cost grows faster than its limit."""
    parser = make_parser(__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--megabytes", type=int, default=64, help="of each model")
    parser.add_argument(
        "--entries", type=int, default=50_000, help="of pip's cache, two files each"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prefetch = measure_prefetches(folder, options.megabytes * 1_000_000, options.rounds)
        prunes = measure_prunes(folder, options.entries)
    queue = measure_queues(image_of("cpu", options.name))
    fewest, most = (each.candidate for each in prunes)
    ratios = [
        Ratio(f"prefetch, a model of {max(MODELS)} / a model alone", per_unit(prefetch), 1.0),
        Ratio(f"prune, a file of {most} / a file of {fewest}", per_unit(prunes), 1.5),
        Ratio(f"queue, a job of {max(JOBS)} / a job alone", per_unit(queue), 1.15),
    ]
    return report("scaling", ratios, [*prefetch, *prunes, *queue])


if __name__ == "__main__":
    sys.exit(main())
