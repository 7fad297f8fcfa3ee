"""Compare the worker with the WebUI started and called by hand, in the same image.

    python -m benchmarks.worker [NAME] [--rounds 5] [--jobs 200]

NAME:cpu and NAME:cuda128 are images in the local engine; without NAME, those that were built from
this checkout. Without a GPU the one for CUDA generates nothing, but it starts, and its preflight
imports torch beside it. Prints the differences and writes all times to
`benchmarks/results/worker.json`. Exit code 1 when one misses its limit.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.compare import Measurement, measure
from benchmarks.containers import image_of, running, seconds_to_answer
from benchmarks.record import Ratio, make_parser, report
from scripts.container.settings import Settings
from scripts.container.webui.flags import webui_flags
from tests.support.worker import free_port

START_LIMIT = 0.3
JOB_LIMIT = 0.005
ACCELERATORS = {"cpu": "cpu", "cuda128": "cuda"}  # of each variant
JOBS = Path(__file__).with_name("worker_jobs.py")


def start_by_hand(image: str, accelerator: str) -> float:
    """Start the WebUI with the worker's flags, and nothing around it."""
    port = free_port()
    settings = Settings.from_environment({"ACCELERATOR": accelerator, "WEBUI_PORT": str(port)})
    program = ("--entrypoint=/opt/webui/bin/python", "--env=PYTHONPATH=", image)
    return seconds_to_answer(
        [*program, "webui.py", *webui_flags(settings, settings.model_path, [])], port
    )


def start_worker(image: str, mode: str) -> float:
    """Start the container as it is."""
    port = free_port()
    variables = {"WEBUI_PORT": port, "METRICS_PORT": free_port(), "WORKER_MODE": mode}
    options = [f"--env={name}={value}" for name, value in variables.items()]
    return seconds_to_answer([*options, image], port)


def measure_starts(variant: str, image: str, rounds: int) -> dict[str, Measurement]:
    """Measure the starts of the WebUI by hand and of the worker in both modes."""
    return measure(
        f"start, {variant}",
        {
            "by hand": lambda _: start_by_hand(image, ACCELERATORS[variant]),
            "pod": lambda _: start_worker(image, "pod"),
            "serverless": lambda _: start_worker(image, "serverless"),
        },
        rounds,
    )


def measure_jobs(image: str, count: int) -> list[tuple[float, float]]:
    """Return the seconds of `count` jobs, each by hand and through the handler."""
    port = free_port()
    python = "/opt/runpod/bin/python"
    with running(f"--env=WEBUI_PORT={port}", "--env=METRICS_PORT=0", image) as name:
        health = ["docker", "exec", name, python, "-m", "scripts.container", "health"]
        while subprocess.run(health, capture_output=True, check=False).returncode:
            time.sleep(0.2)
        answer = subprocess.run(
            ["docker", "exec", "-i", name, python, "-", str(count)],
            input=JOBS.read_text(),
            capture_output=True,
            text=True,
            check=True,
        )
    pairs: list[tuple[float, float]] = json.loads(answer.stdout.splitlines()[-1])
    return pairs


def main() -> int:
    """Measure, print and record; 1 when a limit is missed."""
    parser = make_parser(__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    images = {variant: image_of(variant, options.name) for variant in ACCELERATORS}
    ratios: list[Ratio] = []
    found: list[Measurement] = []
    for variant, image in images.items():
        starts = measure_starts(variant, image, options.rounds)
        for mode in ("pod", "serverless"):
            # Starts take seconds: a busy machine disturbs the fastest one least.
            added = starts[mode].minimum - starts["by hand"].minimum
            ratios.append(Ratio(f"start, {variant}: {mode} - by hand, s", added, START_LIMIT))
        found += starts.values()
    jobs = measure_jobs(images["cpu"], options.jobs)
    # Jobs are short and many: their differences within pairs are compared, by the median.
    more = statistics.median(handled - direct for direct, handled in jobs)
    ratios.append(Ratio("job: through the handler - same call by hand, s", more, JOB_LIMIT))
    found.append(Measurement("job", "by hand", "s", tuple(direct for direct, _ in jobs)))
    found.append(Measurement("job", "through the handler", "s", tuple(each for _, each in jobs)))
    return report("worker", ratios, found)


if __name__ == "__main__":
    sys.exit(main())
