"""Run a serverless worker through many mixed jobs, and watch what it holds.

    python -m benchmarks.soak [IMAGE] [--jobs 1000] [--option=OPTION...]

IMAGE is by default the one for the processor that was built from this checkout; options are those
of `docker run`. Jobs are good, bad, too large, too slow or cancelled; in the first half of them,
WebUI and handler are also killed as they draw. Descriptors, threads, memory, processes and disk
are looked at after each hundred jobs, with no job in hand. At last a stop comes while a job draws.
Writes all figures to `benchmarks/results/soak.json`. Exit code 1 when one grows, or when a job ends
otherwise than it should. Needs root, and an engine on this machine.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

import psutil

from benchmarks.compare import Measurement
from benchmarks.containers import image_of, memory_of, running
from benchmarks.record import Ratio, make_parser, report
from scripts.host.console import note
from tests.support import runpod
from tests.support.running import eventually
from tests.support.webui import png
from tests.support.worker import free_port

SMALL: Final = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1}
SLOW: Final = {**SMALL, "width": 512, "height": 512, "steps": 150}
TIMEOUT: Final = 600.0  # seconds that a job may wait for a start and draw
PERIOD: Final = 100  # jobs between two looks
ROLES: Final = {"webui": "launcher.py", "handler": "handler", "supervisor": "scripts.container"}


def make_jobs() -> dict[str, dict[str, Any]]:
    """Return the inputs of each kind of job; `too-slow` and `too-large` fail by what they give."""
    small, large = (base64.b64encode(png(side, side, 1)).decode() for side in (64, 1000))
    return {
        "text": SMALL,
        "image": {"init_images": [small], "denoising_strength": 0.5, **SMALL},
        "upscaled": {"api": "extras", "image": small, "upscaler_1": "Lanczos"},
        "listed": {"api": "samplers"},
        "bad-type": {**SMALL, "steps": "many"},
        "bad-name": {**SMALL, "sampler_name": "none"},
        "bad-image": {**SMALL, "init_images": ["no image"]},
        "too-slow": {**SLOW, "timeout": 1},
        "too-large": {
            **{"api": "extras", "image": large, "upscaler_1": "Lanczos"},
            "upscaling_resize": 2,
        },
    }


EVERY: Final = {
    **{"cancelled": 25, "too-slow": 31, "too-large": 37, "bad-type": 9, "bad-name": 11},
    **{"bad-image": 13, "listed": 7, "upscaled": 8, "image": 3},
}
"""Of how many jobs one is of a kind; the first that fits decides, and all others are `text`."""

CODES: Final = {
    **{"bad-type": "input-invalid", "bad-name": "name-unknown", "bad-image": "input-invalid"},
    **{"too-slow": "job-timeout", "too-large": "answer-too-large"},
}
"""Codes of the errors that kinds of jobs end with; the other kinds succeed."""


class Soak:
    """A worker and the jobs that it is given.

    Args:
        container: its ID.
        platform: that it takes jobs from.
    """

    def __init__(self, container: str, platform: runpod.Platform) -> None:
        self.container, self._platform = container, platform
        self._jobs = make_jobs()
        self.ended: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.looks: dict[str, list[float]] = defaultdict(list)

    def run(self, number: int) -> None:
        """Run one job and compare its end with what it should be."""
        kind = next((kind for kind, every in EVERY.items() if number % every == 0), "text")
        if kind == "cancelled":  # before a worker has it
            name = f"cancelled-{number}"
            self._platform.cancelled.add(name)
            self._platform.send(SMALL, name)
            self.ended[kind] += 1
            return
        given = self._jobs[kind]
        seeded = {**given, "seed": number} if "prompt" in given else given
        result = self._platform.do(seeded, TIMEOUT)
        error, code = str(result.get("error", "")), CODES.get(kind, "")
        self.ended[kind] += 1
        if f"[{code}]" not in error if code else error:
            self.wrong.append(f"{number} ({kind}): {error[:300]}")

    def kill(self, role: str) -> None:
        """Kill a process as it draws, and draw with the one that replaces it."""
        job = self._platform.send(SLOW)
        eventually(lambda: self._platform.progress[job], seconds=TIMEOUT, what="progress")
        self._processes()[role].kill()
        if role == "webui":
            error = self._platform.result(job, TIMEOUT).get("error")
            if not error:
                self.wrong.append("a job of a killed WebUI succeeded")
        self.ended[f"killed {role}"] += 1
        self.run(1)

    def look(self) -> None:
        """Record what the worker holds while it has nothing to do."""
        time.sleep(2)
        found = self._processes()
        for role, process in found.items():
            self.looks[f"descriptors, {role}"].append(process.num_fds())
            self.looks[f"threads, {role}"].append(process.num_threads())
            self.looks[f"memory, {role}, MB"].append(process.memory_info().rss / 1e6)
        self.looks["memory, all, MB"].append(memory_of(self.container) / 1e6)
        self.looks["processes"].append(len(self._all_processes()))
        self.looks["disk, MB"].append(self._inspect("{{.SizeRw}}", "--size") / 1e6)
        note(f"{self.ended.total()}: " + ", ".join(f"{k} {v[-1]:g}" for k, v in self.looks.items()))

    def drain(self) -> None:
        """Stop the worker as it draws; the job must end well, and the worker too."""
        job = self._platform.send({**SLOW, "steps": 20})
        eventually(lambda: self._platform.progress[job], seconds=TIMEOUT, what="progress")
        processes = self._all_processes()
        stop = ["docker", "stop", "--time=120", self.container]
        subprocess.run(stop, check=True, capture_output=True)
        if "error" in self._platform.result(job, TIMEOUT):
            self.wrong.append("a job that drew when the stop came failed")
        if status := self._inspect("{{.State.ExitCode}}"):
            self.wrong.append(f"the stopped worker ended with exit code {status}")
        if left := [each for each in processes if each.is_running()]:
            self.wrong.append(f"processes are left: {left}")

    def _all_processes(self) -> list[psutil.Process]:
        first = psutil.Process(self._inspect("{{.State.Pid}}"))
        return [first, *first.children(recursive=True)]

    def _processes(self) -> dict[str, psutil.Process]:
        """Return the process of each role."""
        left, found = self._all_processes()[1:], {}
        for role, mark in ROLES.items():
            found[role] = next(p for p in left if any(mark in word for word in p.cmdline()))
            left.remove(found[role])
        return found

    def _inspect(self, field: str, *options: str) -> int:
        command = ["docker", "inspect", *options, "--format", field, self.container]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def judge(soak: Soak) -> Iterator[Ratio]:
    """Yield growth over the second half of the looks, in which nothing was killed."""
    for what, values in soak.looks.items():
        second = values[len(values) // 2 :]
        grown = max(second) - second[0]
        # A pool of the WebUI ends its threads once they have been idle for some seconds.
        limits = {"memory": 0.03 * second[0], "disk": 1.0, "threads": 2}
        limit = limits.get(what.partition(",")[0], 0)
        yield Ratio(f"growth: {what}", grown, limit)
    yield Ratio("jobs that ended otherwise than they should", len(soak.wrong), 0)


def main() -> int:
    """Run the jobs, watch, stop, report; 1 when anything grows or fails."""
    parser = make_parser(__doc__)
    parser.add_argument("image", nargs="?")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=1000)
    given = parser.parse_args()
    variables = {
        **{"WORKER_MODE": "serverless", "METRICS_PORT": 0, "WEBUI_PORT": free_port()},
        **{"PREFLIGHT": "off", "JOB_TIMEOUT": TIMEOUT, "RESTARTS": given.jobs},
    }
    with runpod.running() as platform:
        variables |= platform.environment()
        options = [f"--env={name}={value}" for name, value in variables.items()]
        image = given.image or image_of("cpu", None)
        with running(*options, *given.option, image) as container:
            soak = Soak(container, platform)
            for number in range(1, given.jobs + 1):
                soak.run(number)
                if number <= given.jobs // 2 and number % PERIOD in (30, 70):
                    soak.kill("webui" if number % PERIOD == 30 else "handler")
                if number % PERIOD == 0:
                    soak.look()
            soak.drain()
    note(json.dumps(soak.ended))
    for line in soak.wrong:
        note(line)
    found = [Measurement(what, "worker", "", (*each,)) for what, each in soak.looks.items()]
    return report("soak", list(judge(soak)), found)


if __name__ == "__main__":
    sys.exit(main())
