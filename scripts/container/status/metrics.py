"""Collect the worker's Prometheus metrics, one function per source.

Each source is a file that another process wrote, the kernel or the driver. None of them sends a
request to the WebUI, so that a scrape never slows an image down.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client import generate_latest
from prometheus_client.core import Metric

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.nvml import NvmlError, read_driver
from scripts.common.pip_cache.entries import Stats, measure
from scripts.container.settings import Settings
from scripts.container.status.state import (
    check_health,
    pip_cache_in_use,
    read_job_counts,
    read_state,
)
from scripts.container.webui.model_tree import load_tree

_PREFIX: Final = "a1111_worker"
_PIP_CACHE_INTERVAL: Final = 600.0  # seconds between two measurements of pip's cache


def format_metrics(settings: Settings) -> bytes:
    """Return all metrics in Prometheus' text format 0.0.4."""
    return generate_latest(_Collector(settings))


@dataclass(frozen=True)
class _Collector:
    settings: Settings

    def collect(self) -> Iterator[Metric]:
        for source in (_worker, _jobs, _models, _memory, _gpus, _pip_cache):
            yield from source(self.settings)


def _metric(
    name: str,
    meaning: str,
    samples: float | Mapping[Any, float],
    *,
    label: str = "",
) -> Metric:
    """Return a metric with one sample, or with one per value of a label; `…_total` is a counter."""
    full_name = f"{_PREFIX}_{name}"
    kind = "counter" if name.endswith("_total") else "gauge"
    metric = Metric(full_name.removesuffix("_total"), meaning, kind)  # which adds it to counters
    for value, number in samples.items() if isinstance(samples, Mapping) else [("", samples)]:
        metric.add_sample(full_name, {label: value} if label else {}, number)
    return metric


def _worker(settings: Settings) -> Iterator[Metric]:
    state = read_state(settings.worker_dir)
    is_ready, _ = check_health(settings.worker_dir)
    yield _metric("up", "Whether the WebUI's process runs.", bool(state.server))
    yield _metric("ready", "Whether a picture was drawn and jobs are welcome.", is_ready)
    yield _metric("restarts_total", "Times the WebUI was started again.", state.restarts)
    if state.extensions:
        broken = {name: bool(reason) for name, reason in state.extensions.items()}
        meaning = "Whether an extension does not work, or not all of it."
        yield _metric("extension_broken", meaning, broken, label="extension")
    if state.seconds:
        meaning = "Seconds from the start until a phase was reached."
        yield _metric("startup_seconds", meaning, state.seconds, label="phase")


def _jobs(settings: Settings) -> Iterator[Metric]:
    counts = read_job_counts(settings.worker_dir)
    yield _metric("jobs_running", "Jobs taken and not ended.", counts.running)
    meaning = "Those of them that wait: the WebUI draws one at a time."
    yield _metric("jobs_waiting", meaning, max(counts.running - 1, 0))
    ended = {"done": counts.done, "failed": counts.failed}
    yield _metric("jobs_total", "Jobs that have ended.", ended, label="result")
    yield _metric("job_seconds_total", "Time spent in ended jobs.", counts.seconds)


def _models(settings: Settings) -> Iterator[Metric]:
    tree = load_tree(settings.worker_dir)
    if tree is None:
        return
    yield _metric("models", "Models that the WebUI sees.", tree.count_by_kind(), label="kind")
    shadowed = len(tree.entries) - len(tree.visible)
    yield _metric("models_shadowed", "Models hidden by others of the same name.", shadowed)
    meaning = "Models and folders that could not be read or linked."
    yield _metric("models_problems", meaning, len(tree.problems))


def _memory(settings: Settings) -> Iterator[Metric]:
    """Memory of the WebUI, as the kernel and its allocator report it."""
    webui = read_state(settings.worker_dir).server
    try:
        resident = psutil.Process(webui).memory_info().rss if webui else 0
    except psutil.Error:
        resident = 0
    yield _metric("webui_resident_bytes", "Memory of the WebUI's process.", resident)
    try:
        heap = json.loads((settings.worker_dir / "heap.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if heap.pop("pid", 0) == webui and heap:
        meaning = "The WebUI's heap as tcmalloc counts it."
        yield _metric("tcmalloc_bytes", meaning, heap, label="part")


def _gpus(_: Settings) -> Iterator[Metric]:
    try:
        gpus = {str(index): gpu for index, gpu in enumerate(read_driver().gpus)}
    except NvmlError:
        return
    if not gpus:
        return
    total = {index: gpu.total for index, gpu in gpus.items()}
    used = {index: gpu.used for index, gpu in gpus.items()}
    yield _metric("gpu_memory_bytes", "Memory of the GPU.", total, label="gpu")
    yield _metric("gpu_memory_used_bytes", "Memory in use on the GPU.", used, label="gpu")
    shares = {
        index: gpu.utilisation / 100 for index, gpu in gpus.items() if gpu.utilisation is not None
    }
    if shares:
        meaning = "Share of time in which the GPU worked."
        yield _metric("gpu_utilisation_ratio", meaning, shares, label="gpu")


def _pip_cache(settings: Settings) -> Iterator[Metric]:
    try:
        period = int(time.monotonic() / _PIP_CACHE_INTERVAL)
        stats = _measure_pip_cache(pip_cache_in_use(settings), period)
    except UserError:
        return
    yield _metric("pip_cache_bytes", "Size of pip's cache.", stats.sizes, label="kind")
    yield _metric("pip_cache_entries", "Entries in it.", stats.entries, label="kind")
    yield _metric("pip_cache_free_bytes", "Free on its file system.", stats.free)
    meaning = "Share of files that pip found in its cache."
    yield _metric("pip_cache_hit_ratio", meaning, stats.runs.hit_rate)


@lru_cache(maxsize=1)
def _measure_pip_cache(cache: Path, _period: int) -> Stats:
    return measure(cache)
