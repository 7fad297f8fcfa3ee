"""The supervisor with real processes: start, restart, stop, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.volume_models import as_json
from scripts.common.webui_client import WebuiClient
from scripts.common.webui_flags import MEMORY_FLAGS
from scripts.container.supervisor.exit_reason import HEALED_AFTER, RestartPolicy
from scripts.host.config.load import ROOT
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.nvml import library, needs_compiler
from tests.support.safetensors import write_safetensors
from tests.support.worker import Worker, alive

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    workers: list[Worker] = []

    def make(**environment: str) -> Worker:
        workers.append(Worker(tmp_path, **environment))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


def test_ready_means_an_image_was_drawn(start: Start) -> None:
    worker = start()
    state = worker.ready()
    assert list(state.seconds) == ["started", "answers", "drawn"]
    assert worker.draw().status == 200


def test_every_warmup_size_is_drawn_before_ready(start: Start) -> None:
    worker = start(WARMUP="64x64,72x128x2")
    worker.ready()
    before_ready = worker.log_text.partition("event=ready")[0]
    sizes = [
        line.rpartition("size=")[2].split()[0]
        for line in before_ready.splitlines()
        if "warmed-up" in line
    ]
    assert sizes == ["64x64", "72x128"]


def test_the_size_that_cannot_be_drawn_is_named(start: Start) -> None:
    worker = start(WARMUP="72x128", STANDIN_FAULT="wrong-size", RESTARTS="0")
    assert worker.ended() == 4
    assert "image of 72x128: the picture is 64x128" in worker.log_text


@pytest.mark.parametrize("fault", ["no-model", "garbage", "flat", "wrong-size"])
def test_a_webui_that_cannot_draw_is_never_ready(start: Start, fault: str) -> None:
    worker = start(STANDIN_FAULT=fault, RESTARTS="0")
    assert worker.ended() == 4
    assert "event=ready" not in worker.log_text
    assert "event=webui-unusable" in worker.log_text


def test_a_crash_at_start_is_logged_and_retried_within_limits(start: Start) -> None:
    worker = start(STANDIN_FAULT="crash-at-start", RESTARTS="2")
    assert worker.ended() == 4
    assert worker.log_text.count("event=webui-died") == 3
    assert "the stand-in was asked to crash" in worker.log_text
    assert "exit code 1" in worker.log_text


def test_options_of_image_and_environment_reach_the_webui(start: Start) -> None:
    image = '{"CLIP_stop_at_last_layers": 2, "samples_format": "jpg"}'
    worker = start(IMAGE_SETTINGS=image, WEBUI_SETTINGS='{"samples_format": "webp"}')
    worker.ready()
    api = WebuiClient.local("127.0.0.1", worker.port)
    options = api.request("GET", "/sdapi/v1/options").json()
    assert (options["CLIP_stop_at_last_layers"], options["samples_format"]) == (2, "webp")
    assert "option-wrong" not in worker.log_text


def test_an_unknown_option_is_named_and_the_others_count(start: Start) -> None:
    wrong = {"clip_stop_at_last_layer": 2, "upscaler_for_img2img": "x"}
    worker = start(WEBUI_SETTINGS=json.dumps(wrong))
    worker.ready()
    [line] = [line for line in worker.log_text.splitlines() if "event=option-wrong" in line]
    assert "option=clip_stop_at_last_layer " in line
    assert "near it: CLIP_stop_at_last_layers" in line


def test_an_option_of_another_type_ends_the_worker(start: Start) -> None:
    worker = start(WEBUI_SETTINGS='{"CLIP_stop_at_last_layers": "2"}')
    assert worker.ended() == 1
    assert "CLIP_stop_at_last_layers is '2', not a number such as 1" in worker.log_text
    assert "event=restarting" not in worker.log_text


def test_a_strict_preflight_refuses_wrong_options(start: Start, tmp_path: Path) -> None:
    model = write_safetensors(tmp_path / "sound.safetensors")
    settings = '{"no_such_option": 1}'
    worker = start(WEBUI_SETTINGS=settings, PREFLIGHT="strict", MODEL_PATH=str(model))
    assert worker.ended() == 3
    assert "event=option-wrong" in worker.log_text


def test_an_unknown_flag_ends_the_worker_without_a_restart(start: Start) -> None:
    worker = start(WEBUI_ARGS="--no-such-flag")
    assert worker.ended() == 4
    assert worker.log_text.count("event=webui-died") == 1
    assert "finding=flag-unknown" in worker.log_text
    assert "unrecognized arguments: --no-such-flag" in worker.log_text


@needs_compiler
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["--no-half-vae", "--medvram-sdxl"]),
        ({"GPU_MEMORY": "off"}, ["--no-half-vae"]),
        ({"WEBUI_ARGS": "--lowvram"}, ["--no-half-vae", "--lowvram"]),
        ({"IMAGE_FLAGS": '{"add": ["--medvram"], "remove": ["--no-half-vae"]}'}, ["--medvram"]),
    ],
)
def test_memory_flags_fit_checkpoint_and_gpu_unless_set_by_hand(
    start: Start, tmp_path: Path, environment: dict[str, str], expected: list[str]
) -> None:
    driver = library(tmp_path, total=8 * 2**30).parent
    names = ("model.diffusion_model.x", "conditioner.embedders.1.model.ln_final.weight")
    write_safetensors(tmp_path / "model.safetensors", *names)
    worker = start(ACCELERATOR="cuda", LD_LIBRARY_PATH=str(driver), **environment)
    worker.ready()
    flags = {*MEMORY_FLAGS, "--no-half-vae"}
    assert [flag for flag in worker.seen["argv"] if flag in flags] == expected
    assert 'event=model-flags checkpoint=SDXL gpu_memory="8.0 GiB"' in worker.log_text


def test_a_webui_that_dies_once_is_restarted(start: Start, tmp_path: Path) -> None:
    worker = start(STANDIN_FAULT="crash-at-start", STANDIN_ONCE=str(tmp_path / "once"))
    assert worker.ready().restarts == 1
    assert worker.draw().status == 200


def test_a_webui_killed_in_a_job_is_restarted_and_draws(start: Start, tmp_path: Path) -> None:
    worker = start(STANDIN_FAULT="killed-mid-job", STANDIN_ONCE=str(tmp_path / "once"))
    worker.ready()
    with pytest.raises(ConnectionError):
        worker.draw()
    worker.until(lambda: worker.state.restarts == 1, "restart")
    worker.ready()
    assert worker.draw().status == 200
    assert "how=SIGKILL" in worker.log_text


def test_a_webui_that_stops_answering_is_restarted(start: Start, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    worker = start(STANDIN_FAULT="silent", STANDIN_ONCE=once, HANG_TIMEOUT="1")
    worker.until(lambda: worker.state.restarts == 1, "restart")
    worker.ready()
    assert "no answer for 1 s" in worker.log_text


def test_a_stop_waits_for_the_running_job(start: Start, tmp_path: Path) -> None:
    worker = start()
    webui = worker.ready().server
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    statuses: list[int] = []
    job = threading.Thread(target=lambda: statuses.append(worker.draw(wait_for=str(pipe)).status))
    job.start()
    with pipe.open("wb"):  # opens only once the job waits at the other end
        worker.process.send_signal(signal.SIGTERM)
        worker.until(lambda: worker.state.phase == "draining", "draining")
        assert worker.process.poll() is None
    job.join()
    assert statuses == [200]
    assert worker.ended() == 0
    assert not alive(webui)
    assert worker.state.phase == "stopped"


def test_a_stop_kills_after_the_deadline(start: Start) -> None:
    worker = start(STANDIN_FAULT="stubborn", STOP_TIMEOUT="0.3")
    webui = worker.ready().server
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 5
    assert time.monotonic() - began < 5
    assert not alive(webui)


def test_a_stop_during_the_start_ends_at_once(start: Start) -> None:
    worker = start()
    worker.until(lambda: worker.state.server, "start")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert not alive(worker.state.server)


def test_a_killed_supervisor_ends_the_webui(start: Start) -> None:
    worker = start()
    webui = worker.ready().server
    worker.process.kill()
    worker.until(lambda: not alive(webui), "the WebUI's end")


def test_a_missing_python_is_one_log_line(start: Start) -> None:
    worker = start(WEBUI_PYTHON="/nowhere/python")
    assert worker.ended() == 1
    assert "event=start-failed" in worker.log_text
    assert "Traceback" not in worker.log_text


def test_a_failed_strict_preflight_ends_the_worker(start: Start) -> None:
    worker = start(PREFLIGHT="strict")  # there is no model file
    assert worker.ended() == 3
    assert "event=ready" not in worker.log_text
    assert "code=model-missing" in worker.log_text


def test_a_preflight_with_warnings_lets_the_worker_serve(start: Start) -> None:
    worker = start(PREFLIGHT="warn")
    worker.ready()
    worker.until(lambda: "event=preflight-done" in worker.log_text, "preflight")
    assert worker.draw().status == 200


def daemon(worker: Worker, name: str) -> int:
    """The process id that a daemon of the WebUI has written down."""
    note = worker.dir / "data" / name
    return int(worker.until(lambda: note.exists() and note.read_text(), f"a {name} process"))


def test_a_daemon_ends_with_the_webui_that_started_it(start: Start, tmp_path: Path) -> None:
    worker = start(STANDIN_FAULT="daemons", STANDIN_ONCE=str(tmp_path / "once"))
    webui, left = worker.ready().server, daemon(worker, "daemon")
    assert alive(left)
    os.kill(webui, signal.SIGKILL)
    worker.until(lambda: worker.state.restarts == 1, "restart")
    assert not alive(left)
    worker.ready()
    assert worker.draw().status == 200


def test_a_stop_ends_daemons_and_leaves_no_zombie(start: Start) -> None:
    worker = start(STANDIN_FAULT="daemons")
    worker.ready()
    left, ended = daemon(worker, "daemon"), daemon(worker, "short-lived")
    worker.until(lambda: not psutil.pid_exists(ended), "the orphan's collection")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert not alive(left)


def test_a_webui_that_never_opens_its_port_is_given_up(start: Start) -> None:
    worker = start(STANDIN_FAULT="hang-at-start", READY_TIMEOUT="1", RESTARTS="1")
    assert worker.ended() == 4
    # Once: another try would not be ready in time either.
    assert worker.log_text.count('the API did not answer in time" code=port-closed') == 1
    assert "how=SIGKILL sent_by=supervisor" in worker.log_text
    assert "not ready 1 s after the start: the API did not answer in time" in worker.log_text


def test_a_download_that_stalls_ends_within_the_ready_timeout(start: Start, tmp_path: Path) -> None:
    with misbehaving(b"{}", Behaviour(stop_at=0, how="stall")) as server:
        worker = start(READY_TIMEOUT="1", **volume_model(tmp_path, f"{server.url}/model.json"))
        assert worker.ended() == 4
    assert "not ready 1 s after the start: models are prepared" in worker.log_text
    assert "event=webui-started" not in worker.log_text


def test_a_webui_that_has_served_gets_the_whole_time_again(start: Start, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    worker = start(STANDIN_FAULT="killed-mid-job", STANDIN_ONCE=once, READY_TIMEOUT="3")
    worker.ready()
    time.sleep(3)  # the first deadline passes
    with pytest.raises(ConnectionError):
        worker.draw()
    worker.until(lambda: worker.state.restarts == 1, "restart")
    worker.ready()
    assert "how=SIGKILL sent_by=unknown" in worker.log_text


def test_the_cause_of_an_unusable_webui_is_in_the_workers_lines(start: Start) -> None:
    worker = start(STANDIN_FAULT="no-model", STANDIN_CAUSE_ABOVE="300", RESTARTS="0")
    assert worker.ended() == 4
    unusable, died = (
        next(line for line in worker.log_text.splitlines() if f"event={event}" in line)
        for event in ("webui-unusable", "webui-died")
    )
    for line in (unusable, died):
        assert "finding=model-corrupt" in line
        assert "HeaderTooLarge" in line
        assert "invoke models.verify" in line
    assert "sent_by=supervisor" in died


SECRET_TOKEN = "hf_seen_by_nobody"  # noqa: S105 - a test's


def volume_model(tmp_path: Path, url: str) -> dict[str, str]:
    """A list with one model of the volume, which a token is for; the environment that names it."""
    listed = tmp_path / "volume-models.json"
    digest = sha256(b"{}").hexdigest()
    spec = ArtifactSpec(
        url=url,
        name="model.json",
        sha256=digest,
        token_variable="HF_TOKEN",  # noqa: S106 - the name of a variable
    )
    listed.write_text(as_json({str(tmp_path / "volume" / "model.json"): spec}))
    return {"VOLUME_MODELS": str(listed)}


def test_a_token_with_a_line_break_is_sent_without_it(start: Start, tmp_path: Path) -> None:
    with misbehaving(b"{}") as server:
        files = volume_model(tmp_path, f"{server.url}/model.json")
        worker = start(HF_TOKEN=f"{SECRET_TOKEN}\n", **files)
        worker.ready()
        assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET_TOKEN}"
    assert SECRET_TOKEN not in worker.log_text
    assert SECRET_TOKEN not in json.dumps(worker.seen)


def test_a_token_of_two_lines_ends_the_worker_by_its_name(start: Start, tmp_path: Path) -> None:
    worker = start(
        HF_TOKEN=f"{SECRET_TOKEN}\n{SECRET_TOKEN}", **volume_model(tmp_path, "http://127.0.0.1:9/x")
    )
    assert worker.ended() == 1
    assert "HF_TOKEN holds a space, a line break" in worker.log_text
    assert SECRET_TOKEN not in worker.log_text


def test_a_folder_that_never_answers_ends_the_worker_in_time() -> None:
    code = "import time; from scripts.container.supervisor.shutdown import end_stuck_start as end"
    code += "\nwith end(30): pass\nwith end(0.1): time.sleep(60)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 4
    assert "folders of the worker did not answer within 0.1 s" in done.stderr


CRASHING_THREAD = f"""#!{sys.executable}
import sys
from scripts.container import __main__ as worker
from scripts.container.supervisor.supervisor import Supervisor

def crash(self):
    raise ValueError("Invalid header value b'Bearer hf_seen_by_nobody'")

Supervisor._prepare = crash
sys.exit(worker.main([]))
"""


def test_an_exception_in_any_thread_ends_the_worker_with_its_reason(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(CRASHING_THREAD)
    program.chmod(0o755)
    worker = Worker(tmp_path, python=str(program), HF_TOKEN=SECRET_TOKEN)
    try:
        assert worker.ended() == 1
    finally:
        worker.stop()
    [line] = [line for line in worker.log_text.splitlines() if "event=crashed" in line]
    assert "where=preparation" in line
    assert "ValueError" in line
    assert SECRET_TOKEN not in worker.log_text


def test_an_endless_line_takes_no_memory(start: Start) -> None:
    worker = start(STANDIN_FAULT="endless-line")
    worker.ready()
    assert psutil.Process(worker.process.pid).memory_info().rss < 60_000_000


def slow_to_ask_torch(tmp_path: Path) -> Path:
    """A Python that serves at once, but takes for ever to tell about torch."""
    python = tmp_path / "python"
    lines = ["#!/bin/sh", 'case "$1" in *torch_probe.py) exec sleep 600 ;; esac']
    python.write_text("\n".join([*lines, f'exec {sys.executable} "$@"', ""]))
    python.chmod(0o755)
    return python


def preflight_of(worker: Worker) -> int:
    """The process id of a worker's preflight, 0 while there is none."""
    for child in psutil.Process(worker.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "preflight" in child.cmdline():
                return int(child.pid)
    return 0


@pytest.mark.parametrize(
    ("mode", "outcome"), [("warn", "event=ready"), ("strict", "event=refused")]
)
def test_a_killed_preflight_stops_only_a_strict_worker(
    start: Start, tmp_path: Path, mode: str, outcome: str
) -> None:
    python = str(slow_to_ask_torch(tmp_path))
    worker = start(PREFLIGHT=mode, ACCELERATOR="cuda", WEBUI_PYTHON=python)
    os.kill(worker.until(lambda: preflight_of(worker), "preflight"), signal.SIGKILL)
    worker.until(lambda: outcome in worker.log_text, outcome)
    assert (mode == "strict") == (worker.state.phase != "ready")


def test_a_process_that_dies_at_once_is_given_up() -> None:
    policy = RestartPolicy(limit=2, pause=1.0)
    starts = (5000.0, 5002.0, 5005.0)  # of a worker that has long been ready
    assert [policy.next_pause(start, 1.0, start + 0.1) for start in starts] == [1.0, 2.0, None]


def test_pauses_grow_to_a_minute() -> None:
    policy = RestartPolicy(limit=5000, pause=1.0)
    pauses = [policy.next_pause(0.0, 0.0, 0.0) for _ in range(5000)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses[-1] == 60


def test_exits_are_forgotten_after_long_service() -> None:
    policy = RestartPolicy(limit=1, pause=1.0)
    assert policy.next_pause(0.0, 0.0, 1.0) == 1.0
    assert policy.next_pause(10.0, 20.0, 21.0 + HEALED_AFTER) == 1.0
    assert policy.next_pause(10.0, 0.0, 5000.0) is None


def command_lines() -> str:
    """The process list."""
    processes = psutil.process_iter(["cmdline"])
    return "\n".join(" ".join(process.info["cmdline"] or []) for process in processes)


def test_credentials_are_in_no_process_list_or_log(start: Start) -> None:
    secret = "user:seen-by-nobody"  # noqa: S105 - a test's
    worker = start(API_AUTH=f"{secret} 'or\" $HOME,second:one")
    worker.ready()
    expected = ["--api-auth", f"{secret} 'or\" $HOME,second:one"]
    assert worker.seen["argv"][-2:] == expected
    assert "seen-by-nobody" not in command_lines()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "seen-by-nobody" not in worker.log_text
