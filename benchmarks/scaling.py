"""How cost grows with the number of models, of files in pip's cache, and of jobs in the queue.

    python -m benchmarks.scaling [NAME] [--rounds 5] [--megabytes 64] [--entries 50000]

NAME:cpu is an image in the local engine, by default the one that was built from this checkout; its
real RunPod SDK takes jobs from a stand-in for RunPod. Prints the ratios and writes all times to
`benchmarks/results/scaling.json`. Exit code 1 when one grows faster than it must.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.containers import PICTURE, image_of, running
from benchmarks.models import hub, invoke, make_file, write_config
from benchmarks.record import Ratio, report
from scripts.common.fetch.hashing import sha256_of
from scripts.common.pip_cache.prune import prune
from scripts.host.console import note
from tests.support import runpod
from tests.support.worker import free_port

MODELS = (1, 4, 16)
JOBS = (1, 4, 16, 64)
DAY = 86_400.0


def prefetches(folder: Path, length: int, rounds: int) -> dict[int, float]:
    """Median seconds of `invoke models.prefetch` by number of models, each `length` bytes."""
    repository = folder / "hub" / "o" / "many"
    digests = {
        file.name: sha256_of(file)
        for number in range(max(MODELS))
        for file in [make_file(repository / f"{number}.bin", length)]
    }

    def model(name: str) -> dict[str, Any]:
        source = {"hub": "o/many", "file": name, "revision": "main"}
        rest = {"path": f"/{name}", "sha256": digests[name], "allow_pickle": True}
        return {"name": f"m{name}", "source": source, **rest}

    found: dict[int, float] = {}
    with hub(folder / "hub") as url:
        for count in MODELS:
            models = [model(name) for name in list(digests)[:count]]
            seconds = []
            for turn in range(rounds):
                place = folder / f"{count}-{turn}"
                environment = write_config(place, models, mirrors={"huggingface": url})
                seconds.append(invoke(environment)[0])
            found[count] = statistics.median(seconds)
            note(f"prefetch of {count}: {found[count]:.2f} s")
    return found


def prunes(folder: Path, entries: int) -> dict[int, float]:
    """Seconds to delete every entry of pip's cache, by number of its files."""
    found: dict[int, float] = {}
    for count in (entries // 10, entries):
        cache = folder / f"pip-{count}"
        for number in range(count):
            add_entry(cache, f"{number:056x}")
        os.sync()
        began = time.monotonic()
        gone = prune(cache, max_age=DAY)
        found[2 * count] = time.monotonic() - began
        if gone.entries != count:
            raise SystemExit(f"{gone.entries} of {count} entries were pruned")
        note(f"prune of {2 * count} files: {found[2 * count]:.2f} s")
    return found


def add_entry(cache: Path, name: str) -> None:
    """A download as pip 25 stores it, unused for ten days: what is known of it, and its bytes."""
    folder = cache.joinpath("http-v2", *name[-5:])
    folder.mkdir(parents=True, exist_ok=True)
    old = time.time() - 10 * DAY
    for file in (folder / name, folder / f"{name}.body"):
        file.write_bytes(b"0" * 100)
        os.utime(file, (old, old))


def queues(image: str) -> dict[int, float]:
    """Seconds until all of N jobs are done that were queued at once, by N."""
    found: dict[int, float] = {}
    with runpod.running() as platform:
        told = {**platform.environment(), "WEBUI_PORT": free_port(), "METRICS_PORT": 0}
        with running(*(f"--env={name}={value}" for name, value in told.items()), image):
            platform.do(PICTURE, timeout=300)
            for count in JOBS:
                began = time.monotonic()
                names = [platform.send(PICTURE) for _ in range(count)]
                for name in names:
                    if "images" not in platform.result(name, timeout=300)["output"]:
                        raise SystemExit(f"{name} ended without a picture")
                found[count] = time.monotonic() - began
                note(f"{count} jobs: {found[count]:.2f} s")
    return found


def per_unit(found: Mapping[int, float]) -> float:
    """What one costs among the most, in what one costs among the fewest."""
    few, many = min(found), max(found)
    return (found[many] / many) / (found[few] / few)


def main() -> int:
    """Measure, print, write; 1 when a cost grows faster than it must."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("name", nargs="?")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--megabytes", type=int, default=64, help="of each model")
    words.add_argument("--entries", type=int, default=50_000, help="of pip's cache, two files each")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = prefetches(Path(scratch), given.megabytes * 1_000_000, given.rounds)
        files = prunes(Path(scratch), given.entries)
    jobs = queues(image_of("cpu", given.name))
    ratios = [
        Ratio(f"prefetch, a model of {max(MODELS)} / a model alone", per_unit(models), 1.0),
        Ratio(f"prune, a file of {max(files)} / a file of {min(files)}", per_unit(files), 1.5),
        Ratio(f"queue, a job of {max(JOBS)} / a job alone", per_unit(jobs), 1.0),
    ]
    times = [
        {"name": name, "count": count, "seconds": seconds}
        for name, found in (("prefetch", models), ("prune", files), ("queue", jobs))
        for count, seconds in found.items()
    ]
    return report("scaling", ratios, times)


if __name__ == "__main__":
    sys.exit(main())
