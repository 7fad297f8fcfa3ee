"""What the worker costs beside the WebUI started and called by hand, in the same image.

    python -m benchmarks.worker [NAME] [--rounds 5] [--jobs 200]

NAME:cpu and NAME:cuda128 are images in the local engine; without NAME, those that were built from
this checkout. Without a GPU the one for CUDA draws nothing, but it starts, and its preflight
imports torch beside it. Prints the differences and writes all times to
`benchmarks/results/worker.json`. Exit code 1 when one misses its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.containers import image_of, running, wait_for
from benchmarks.record import Ratio, report
from scripts.common.webui_client import WebuiClient
from scripts.container.settings import Settings
from scripts.container.webui.flags import webui_flags
from tests.support.worker import free_port

START_LIMIT = 0.3
JOB_LIMIT = 0.005
ACCELERATORS = {"cpu": "cpu", "cuda128": "cuda"}  # of each variant
JOBS = Path(__file__).with_name("worker_jobs.py")


def seconds_to_answer(port: int) -> float:
    """Seconds until the API answers."""
    began = time.monotonic()
    wait_for(WebuiClient.local("127.0.0.1", port))
    return time.monotonic() - began


def start_by_hand(image: str, accelerator: str) -> float:
    """Start the WebUI with the worker's flags, and nothing around it."""
    port = str(free_port())
    settings = Settings.from_environment({"ACCELERATOR": accelerator, "WEBUI_PORT": port})
    words = ["webui.py", *webui_flags(settings, [])]
    with running("--entrypoint=/opt/webui/bin/python", "--env=PYTHONPATH=", image, *words):
        return seconds_to_answer(int(port))


def start_worker(image: str, mode: str) -> float:
    """Start the container as it is."""
    port = free_port()
    environment = {"WEBUI_PORT": port, "METRICS_PORT": free_port(), "WORKER_MODE": mode}
    words = [f"--env={name}={value}" for name, value in environment.items()]
    with running(*words, image):
        return seconds_to_answer(port)


def starts(image: str, accelerator: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start; every contestant is first in some round, last in another."""
    ways: dict[str, Callable[[], float]] = {
        "by hand": lambda: start_by_hand(image, accelerator),
        "pod": lambda: start_worker(image, "pod"),
        "serverless": lambda: start_worker(image, "serverless"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(rounds):
        for name in order:
            found[name].append(ways[name]())
        order.append(order.pop(0))
    return found


def job_pairs(image: str, count: int) -> list[tuple[float, float]]:
    """Seconds of `count` jobs, each by hand and through the handler."""
    port = free_port()
    with running(f"--env=WEBUI_PORT={port}", "--env=METRICS_PORT=0", image) as name:
        python = ["/opt/runpod/bin/python", "-"]
        health = ["docker", "exec", name, "/opt/runpod/bin/python", "-m", "scripts.container"]
        while subprocess.run([*health, "health"], capture_output=True, check=False).returncode:
            time.sleep(0.2)
        answer = subprocess.run(
            ["docker", "exec", "-i", name, *python, str(count)],
            input=JOBS.read_text(),
            capture_output=True,
            text=True,
            check=True,
        )
    pairs: list[tuple[float, float]] = json.loads(answer.stdout.splitlines()[-1])
    return pairs


def added(started: dict[str, list[float]], variant: str) -> list[Ratio]:
    """What the worker adds to a start.

    Starts take seconds, and the fastest is the one that a busy machine disturbed least.
    """
    hand = min(started["by hand"])
    return [
        Ratio(f"start, {variant}: {name} - by hand, s", min(started[name]) - hand, START_LIMIT)
        for name in ("pod", "serverless")
    ]


def main() -> int:
    """Measure, print and record; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=200)
    asked = parser.parse_args()
    images = {variant: image_of(variant, asked.name) for variant in ACCELERATORS}
    ratios: list[Ratio] = []
    times: list[dict[str, Any]] = []
    for variant, image in images.items():
        started = starts(image, ACCELERATORS[variant], asked.rounds)
        ratios += added(started, variant)
        times += [
            {"name": f"start, {variant}: {name}", "seconds": seconds}
            for name, seconds in started.items()
        ]
    jobs = job_pairs(images["cpu"], asked.jobs)
    # Jobs are short and many: the middle of the differences within a pair says most.
    more = statistics.median(handled - direct for direct, handled in jobs)
    ratios.append(Ratio("job: through the handler - same call by hand, s", more, JOB_LIMIT))
    times.append({"name": "job: by hand", "seconds": [direct for direct, _ in jobs]})
    times.append({"name": "job: through the handler", "seconds": [each for _, each in jobs]})
    return report("worker", ratios, times)


if __name__ == "__main__":
    sys.exit(main())
