"""Prometheus text on a loopback port: `/metrics` with numbers, `/health` with 200 or 503.

One function a source, each reading what another process left in a file or what the kernel and the
driver tell; nothing here asks the WebUI, so a scrape never slows a picture down.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.entries import Stats, measure
from scripts.container.log import log
from scripts.container.paths import pip_cache_in_use
from scripts.container.settings import Settings
from scripts.container.status.health import verdict
from scripts.container.status.state import State, read_jobs, read_state

_PREFIX: Final = "a1111_worker"
_PIP_EVERY: Final = 600.0  # seconds between two looks into pip's cache


@dataclass(frozen=True)
class Metric:
    """One number.

    Args:
        name: without the common prefix, with its unit.
        value: the number now.
        meaning: a sentence for its HELP line.
        kind: gauge or counter.
        label: `name="value"`, empty without.
    """

    name: str
    value: float
    meaning: str
    kind: str = "gauge"
    label: str = ""


def worker(settings: Settings) -> Iterator[Metric]:
    """Whether it serves, and how it came to that."""
    state = read_state(settings.worker_dir)
    ready, _ = verdict(settings.worker_dir)
    yield Metric("up", float(bool(state.server)), "Whether the WebUI's process runs.")
    yield Metric("ready", float(ready), "Whether a picture was drawn and jobs are welcome.")
    yield Metric("restarts_total", state.restarts, "Times the WebUI was started again.", "counter")
    for phase, seconds in state.seconds.items():
        meaning = "Seconds from the start until a phase was reached."
        yield Metric("startup_seconds", seconds, meaning, label=f'phase="{phase}"')


def jobs(settings: Settings) -> Iterator[Metric]:
    """What the handler has done."""
    record = read_jobs(settings.worker_dir)
    yield Metric("jobs_running", record.running, "Jobs taken and not ended.")
    meaning = "Those of them that wait: the WebUI draws one at a time."
    yield Metric("jobs_waiting", max(record.running - 1, 0), meaning)
    for result, count in (("done", record.done), ("failed", record.failed)):
        meaning = "Jobs that have ended."
        yield Metric("jobs_total", count, meaning, "counter", f'result="{result}"')
    yield Metric("job_seconds_total", record.seconds, "Time spent in ended jobs.", "counter")


def memory(settings: Settings) -> Iterator[Metric]:
    """The WebUI's memory, by the kernel and by its allocator."""
    state = read_state(settings.worker_dir)
    yield Metric("webui_resident_bytes", _resident(state), "Memory of the WebUI's process.")
    try:
        heap = json.loads((settings.worker_dir / "heap.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if heap.pop("pid", 0) == state.server:
        for part, count in heap.items():
            meaning = "The WebUI's heap as tcmalloc counts it."
            yield Metric("tcmalloc_bytes", count, meaning, label=f'part="{part}"')


def gpus(_: Settings) -> Iterator[Metric]:
    """What the driver says."""
    from scripts.common.gpu.nvml import NvmlError, read_driver

    try:
        driver = read_driver()
    except NvmlError:
        return
    for index, gpu in enumerate(driver.gpus):
        label = f'gpu="{index}"'
        yield Metric("gpu_memory_bytes", gpu.total, "Memory of the GPU.", label=label)
        yield Metric("gpu_memory_used_bytes", gpu.used, "Memory in use on the GPU.", label=label)
        if gpu.utilisation is not None:
            meaning = "Share of time in which the GPU worked."
            yield Metric("gpu_utilisation_ratio", gpu.utilisation / 100, meaning, label=label)


def pip_cache(settings: Settings) -> Iterator[Metric]:
    """What pip's cache holds and gives, as of the last ten minutes: looking takes a while."""
    try:
        stats = _pip_stats(pip_cache_in_use(settings), int(time.monotonic() / _PIP_EVERY))
    except UserError:
        return
    for kind in stats.sizes:
        label = f'kind="{kind}"'
        yield Metric("pip_cache_bytes", stats.sizes[kind], "Size of pip's cache.", label=label)
        yield Metric("pip_cache_entries", stats.entries[kind], "Entries in it.", label=label)
    yield Metric("pip_cache_free_bytes", stats.free, "Free on its file system.")
    meaning = "Share of files that pip found in its cache."
    yield Metric("pip_cache_hit_ratio", stats.runs.hit_rate, meaning)


@lru_cache(maxsize=1)
def _pip_stats(cache: Path, _period: int) -> Stats:
    return measure(cache)


Source = Callable[[Settings], Iterator[Metric]]
SOURCES: Final[tuple[Source, ...]] = (worker, jobs, memory, gpus, pip_cache)


def text(settings: Settings) -> str:
    """All numbers, in Prometheus' text format 0.0.4: each name's samples together."""
    families: dict[str, list[Metric]] = {}
    for source in SOURCES:
        for metric in source(settings):
            families.setdefault(f"{_PREFIX}_{metric.name}", []).append(metric)
    lines: list[str] = []
    for name, samples in families.items():
        lines += [f"# HELP {name} {samples[0].meaning}", f"# TYPE {name} {samples[0].kind}"]
        for one in samples:
            # In full: a counter that is rounded stands still, then jumps.
            lines.append(f"{name}{'{' + one.label + '}' if one.label else ''} {one.value!r}")
    return "\n".join(lines) + "\n"


def serve(settings: Settings) -> None:
    """Answer scrapes from a thread until the process ends; a taken port is a warning."""
    if not settings.metrics_port:
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                return self._answer(200, text(settings))
            if self.path == "/health":
                ready, sentence = verdict(settings.worker_dir)
                return self._answer(200 if ready else 503, f"{sentence}\n")
            return self._answer(404, "/metrics or /health\n")

        def _answer(self, status: int, body: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Scrapes are no news."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", settings.metrics_port), Handler)
    except OSError as error:
        log("no-metrics", level="warning", port=settings.metrics_port, reason=str(error))
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _resident(state: State) -> int:
    try:
        pages = int(Path(f"/proc/{state.server}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
