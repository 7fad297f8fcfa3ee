"""Metrics, health, the WebUI's launcher, and models on the volume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.volume_models import as_json
from scripts.container.settings import Settings
from scripts.container.status import metrics
from scripts.container.status.state import JobCounts, State, write_job_counts, write_state
from scripts.container.webui import launcher
from scripts.container.webui.environment import find_tcmalloc
from scripts.host.config.load import ROOT
from tests.support.nvml import library, needs_compiler
from tests.support.worker import Worker, free_port


def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"WORKER_DIR": str(tmp_path)})


NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(\{{{LABEL}(?:,{LABEL})*\}})? (\S+)")
DESCRIBED = re.compile(rf"# (HELP|TYPE) ({NAME}) ((?:[^\\\n]|\\[\\n])+)")


def parse_metrics(body: bytes) -> dict[str, float]:
    """The samples of a scrape by name and labels; asserts that it is Prometheus' text format.

    https://prometheus.io/docs/instrumenting/exposition_formats/, as strict as it can be read: each
    family described once, with help and type, before its samples, which stand together.
    """
    found: dict[str, float] = {}
    described: list[tuple[str, str]] = []
    kind = ""
    assert body.endswith(b"\n")
    for line in body.decode().splitlines():
        if match := DESCRIBED.fullmatch(line):
            word, name, rest = match.groups()
            assert (word, name) not in described
            assert word == "HELP" or described[-1] == ("HELP", name)
            described.append((word, name))
            kind = rest
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name, labels, value = sample.groups()
        assert described[-1] == ("TYPE", name)
        assert kind in ("gauge", "counter")
        assert (kind == "counter") == name.endswith("_total")
        series = name.removeprefix("a1111_worker_") + (labels or "")
        assert series not in found
        found[series] = float(value)
    return found


def test_metrics_show_readiness_jobs_and_memory(tmp_path: Path) -> None:
    me = os.getpid()
    write_state(tmp_path, State("ready", me, me, restarts=2, seconds={"drawn": 1.5}))
    write_job_counts(tmp_path, JobCounts(running=1, done=7, failed=2, seconds=3.25))
    (tmp_path / "heap.json").write_text(json.dumps({"pid": me, "heap": 4096, "free": 1024}))
    found = parse_metrics(metrics.format_metrics(settings(tmp_path)))
    assert found["up"] == found["ready"] == found["jobs_running"] == 1
    assert found["restarts_total"] == 2
    assert found['startup_seconds{phase="drawn"}'] == 1.5
    assert found['jobs_total{result="failed"}'] == 2
    assert found["job_seconds_total"] == 3.25
    assert found['tcmalloc_bytes{part="heap"}'] == 4096
    assert found["webui_resident_bytes"] > 1_000_000


def test_the_heap_of_a_replaced_process_is_left_out(tmp_path: Path) -> None:
    write_state(tmp_path, State("ready", os.getpid(), os.getpid()))
    (tmp_path / "heap.json").write_text(json.dumps({"pid": 1, "heap": 4096}))
    assert b"tcmalloc" not in metrics.format_metrics(settings(tmp_path))


def test_pips_cache_is_counted_by_kind(tmp_path: Path) -> None:
    cache = tmp_path / "pip"
    (cache / "http-v2").mkdir(parents=True)
    (cache / "http-v2" / "a.body").write_bytes(b"x" * 1000)
    (cache / "runs").mkdir()
    (cache / "runs" / "a.log").write_text(
        "2026-11-23T20:28:37,848   Downloading one-1.0-py3-none-any.whl (876 kB)\n"
        "2026-11-23T20:28:39,000   Using cached two-1.0-py3-none-any.whl (1.5 MB)\n"
    )
    env = {"WORKER_DIR": str(tmp_path), "PIP_CACHE_DIR": str(cache)}
    found = parse_metrics(metrics.format_metrics(Settings.from_environment(env)))
    assert found['pip_cache_bytes{kind="http"}'] == 1000
    assert found['pip_cache_entries{kind="wheels"}'] == 0
    assert found["pip_cache_hit_ratio"] == 0.5
    assert found["pip_cache_free_bytes"] > 0


@needs_compiler
def test_metrics_show_each_gpu(tmp_path: Path) -> None:
    code = (
        "import sys; from scripts.container.settings import Settings; "
        "from scripts.container.status.metrics import format_metrics; "
        "sys.stdout.buffer.write(format_metrics(Settings.from_environment({})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": str(library(tmp_path).parent)},
        capture_output=True,
        check=True,
    )
    found = parse_metrics(run.stdout)
    assert found['gpu_memory_bytes{gpu="0"}'] == 51_527_024_640
    assert found['gpu_memory_used_bytes{gpu="0"}'] == 614_400_000
    assert found['gpu_utilisation_ratio{gpu="0"}'] == 0.37


def test_no_number_is_rounded(tmp_path: Path) -> None:
    write_job_counts(tmp_path, JobCounts(done=12_345_678, seconds=9_876_543.25))
    found = parse_metrics(metrics.format_metrics(settings(tmp_path)))
    assert found['jobs_total{result="done"}'] == 12_345_678
    assert found["job_seconds_total"] == 9_876_543.25


def test_all_running_jobs_but_one_wait(tmp_path: Path) -> None:
    for running, waiting in ((0, 0), (1, 0), (3, 2)):
        write_job_counts(tmp_path, JobCounts(running=running))
        assert parse_metrics(metrics.format_metrics(settings(tmp_path)))["jobs_waiting"] == waiting


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    running = Worker(tmp_path, METRICS_PORT=str(free_port()))
    yield running
    running.stop()


def test_a_running_worker_answers_health_and_metrics(worker: Worker) -> None:
    worker.ready()
    base = f"http://127.0.0.1:{worker.metrics_port}"
    with urllib.request.urlopen(f"{base}/health") as answer:
        assert answer.read() == b"ready\n"
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        found = parse_metrics(answer.read())
    assert found["ready"] == 1
    assert found['startup_seconds{phase="started"}'] <= found['startup_seconds{phase="drawn"}']
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{base}/other")


def test_the_launcher_is_invisible_to_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv, sys.path[0], __name__, 'inside' in sys.modules)")
    heap = str(tmp_path / "heap.json")
    command = [launcher.__file__, heap, "127.0.0.1", str(free_port()), "script.py", "--flag"]
    plain = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert plain.stdout == f"['script.py', '--flag'] {tmp_path} __main__ False\n"


def test_callers_are_named_as_by_inspect_until_it_serves(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import inspect, socket, sys, time\n"
        "def names(): return [(f.filename, f.lineno, f.function) for f in real()]\n"
        "def outer(): return names()\n"
        "real = inspect.stack\n"
        "early, sources = outer(), real()[0].code_context\n"
        "server = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
        "while inspect.stack is real: time.sleep(0.01)\n"
        "real = inspect.stack\n"
        "late = outer()\n"
        "strip = lambda names: [(f, n) for f, l, n in names]\n"
        "print(sources, strip(early) == strip(late), early[0][1], early[1][2])\n"
        "print(real()[0].code_context)"
    )
    address = ("127.0.0.1", str(free_port()))
    command = [launcher.__file__, str(tmp_path / "heap.json"), *address, "script.py", *address]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("None True 2 outer\n['print(")


def test_garbage_collection_starts_when_the_port_is_open(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import gc, socket, sys, time\n"
        "print(gc.isenabled())\n"
        "server = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
        "while not gc.isenabled(): time.sleep(0.01)\n"
        "print(gc.get_freeze_count() > 0)"
    )
    address = ("127.0.0.1", str(free_port()))
    done = subprocess.run(
        [
            sys.executable,
            launcher.__file__,
            str(tmp_path / "heap"),
            *address,
            str(script),
            *address,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "False\nTrue\n"


@pytest.mark.skipif(not find_tcmalloc("auto"), reason="tcmalloc is not installed here")
def test_the_launcher_writes_tcmallocs_heap(tmp_path: Path) -> None:
    script, target = tmp_path / "script.py", tmp_path / "heap.json"
    nowhere = ("127.0.0.1", str(free_port()))
    script.write_text("import pathlib, sys\nwhile not pathlib.Path(sys.argv[1]).exists(): pass")
    subprocess.run(
        [sys.executable, launcher.__file__, str(target), *nowhere, str(script), str(target)],
        env={"LD_PRELOAD": find_tcmalloc("auto")},
        check=True,
        timeout=30,
    )
    found = json.loads(target.read_text())
    assert found["heap"] > found["used"] > 0


def volume_model(tmp_path: Path, content: bytes, digest: str) -> dict[str, str]:
    """A list with one model; the environment that names it."""
    source, listed = tmp_path / "source.bin", tmp_path / "volume-models.json"
    source.write_bytes(content)
    spec = ArtifactSpec(url=source.as_uri(), name="model.json", sha256=digest)
    listed.write_text(as_json({str(tmp_path / "volume" / "model.json"): spec}))
    return {"VOLUME_MODELS": str(listed)}


def test_volume_models_are_fetched_before_the_webui_starts(tmp_path: Path) -> None:
    environ = volume_model(tmp_path, b"{}", sha256(b"{}").hexdigest())
    worker = Worker(tmp_path, **environ)
    try:
        worker.ready()
        assert (tmp_path / "volume" / "model.json").read_bytes() == b"{}"
        assert worker.log_text.index("model-on-volume") < worker.log_text.index("webui-started")
    finally:
        worker.stop()


def test_a_volume_model_with_a_wrong_hash_stops_the_worker(tmp_path: Path) -> None:
    worker = Worker(tmp_path, **volume_model(tmp_path, b"{}", sha256(b"other").hexdigest()))
    try:
        assert worker.ended() == 1
        assert "event=no-models" in worker.log_text
        assert "Traceback" not in worker.log_text
        assert not (tmp_path / "volume" / "model.json").exists()
    finally:
        worker.stop()
