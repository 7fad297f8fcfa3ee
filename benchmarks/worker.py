"""What the worker costs beside the WebUI started and called by hand, in the same image.

    python -m benchmarks.worker [IMAGE] [--rounds 5] [--jobs 200]

IMAGE is one of variant cpu that is in the local engine; without it, the one built from this
checkout. Prints the differences and writes all times to `benchmarks/results/worker.json`. Exit code
1 when one misses its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.record import Ratio, report
from scripts.container.api import Api
from scripts.container.flags import webui_flags
from scripts.container.settings import Settings
from scripts.host.config.load import load
from scripts.host.docker.plan import references, source_of
from tests.unit.worker import free_port

START_LIMIT = 0.3
JOB_LIMIT = 0.005
JOBS = Path(__file__).with_name("worker_jobs.py")


@contextmanager
def running(*words: str) -> Iterator[str]:
    """A container on this machine's network, removed afterwards; its id."""
    base = ["docker", "run", "--detach", "--network=host"]
    started = subprocess.run([*base, *words], capture_output=True, text=True, check=True)
    name = started.stdout.strip()
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)


def seconds_to_answer(port: int) -> float:
    """Seconds until the API answers."""
    api, began = Api("127.0.0.1", port), time.monotonic()
    while True:
        try:
            api.call("GET", "/sdapi/v1/sd-models")
        except OSError:
            time.sleep(0.005)
        else:
            return time.monotonic() - began


def start_by_hand(image: str) -> float:
    """Start the WebUI with the worker's flags, and nothing around it."""
    port = str(free_port())
    settings = Settings.from_environment({"ACCELERATOR": "cpu", "WEBUI_PORT": port})
    words = ["webui.py", *webui_flags(settings, [])]
    with running("--entrypoint=/opt/webui/bin/python", "--env=PYTHONPATH=", image, *words):
        return seconds_to_answer(int(port))


def start_worker(image: str, mode: str) -> float:
    """Start the container as it is."""
    port = free_port()
    environment = {"WEBUI_PORT": port, "METRICS_PORT": 0, "WORKER_MODE": mode}
    words = [f"--env={name}={value}" for name, value in environment.items()]
    with running(*words, image):
        return seconds_to_answer(port)


STARTS: Final[dict[str, Callable[[str], float]]] = {
    "WebUI by hand": start_by_hand,
    "worker of a pod": lambda image: start_worker(image, "pod"),
    "serverless worker": lambda image: start_worker(image, "serverless"),
}


def starts(image: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start; every contestant is first in some round, last in another."""
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    order = list(STARTS)
    for _ in range(rounds):
        for name in order:
            found[name].append(STARTS[name](image))
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


def built_here() -> str:
    """The image of variant cpu that was built from this checkout."""
    loaded = load("cpu")
    return references(loaded, source_of(loaded.root))[0]


def main() -> int:
    """Measure, print and record; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=200)
    asked = parser.parse_args()
    image = asked.image or built_here()
    started = starts(image, asked.rounds)
    jobs = job_pairs(image, asked.jobs)
    # Starts take seconds, and the fastest is the one that a busy machine disturbed least; jobs are
    # short and many, so the middle of the differences within a pair says more.
    hand, *workers = ((name, min(seconds)) for name, seconds in started.items())
    added = statistics.median(handled - direct for direct, handled in jobs)
    ratios = [
        *(
            Ratio(f"start: {name} - {hand[0]}, s", fastest - hand[1], START_LIMIT)
            for name, fastest in workers
        ),
        Ratio("job: through the handler - same call by hand, s", added, JOB_LIMIT),
    ]
    times = [
        *({"name": f"start: {name}", "seconds": seconds} for name, seconds in started.items()),
        {"name": "job: by hand", "seconds": [direct for direct, _ in jobs]},
        {"name": "job: through the handler", "seconds": [handled for _, handled in jobs]},
    ]
    return report("worker", ratios, times)


if __name__ == "__main__":
    sys.exit(main())
