"""The supervisor, with real processes: it serves, heals, gives up, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.unit.worker import Worker, alive

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


def test_ready_means_that_a_picture_was_drawn(start: Start) -> None:
    worker = start()
    state = worker.ready()
    assert list(state.seconds) == ["started", "answers", "drawn"]
    assert worker.draw().status == 200


@pytest.mark.parametrize("fault", ["no-model", "garbage", "flat", "wrong-size"])
def test_a_server_that_cannot_draw_is_never_ready(start: Start, fault: str) -> None:
    worker = start(STANDIN_FAULT=fault, RESTARTS="0")
    assert worker.ended() == 4
    assert "event=ready" not in worker.said
    assert "event=webui-unusable" in worker.said


def test_a_crash_at_start_is_explained_and_retried_only_so_often(start: Start) -> None:
    worker = start(STANDIN_FAULT="crash-at-start", RESTARTS="2")
    assert worker.ended() == 4
    assert worker.said.count("event=webui-died") == 3
    assert "the stand-in was asked to crash" in worker.said
    assert "exit code 1" in worker.said


def test_a_server_that_dies_once_is_replaced(start: Start, tmp_path: Path) -> None:
    worker = start(STANDIN_FAULT="crash-at-start", STANDIN_ONCE=str(tmp_path / "once"))
    assert worker.ready().restarts == 1
    assert worker.draw().status == 200


def test_a_server_killed_in_a_job_is_replaced_and_draws_again(start: Start, tmp_path: Path) -> None:
    worker = start(STANDIN_FAULT="killed-mid-job", STANDIN_ONCE=str(tmp_path / "once"))
    worker.ready()
    with pytest.raises((OSError, HTTPException)):
        worker.draw()
    worker.until(lambda: worker.state.restarts == 1, "restart")
    worker.ready()
    assert worker.draw().status == 200
    assert "how=SIGKILL" in worker.said


def test_a_server_that_falls_silent_is_replaced(start: Start, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    worker = start(STANDIN_FAULT="silent", STANDIN_ONCE=once, HANG_TIMEOUT="1")
    worker.until(lambda: worker.state.restarts == 1, "restart")
    worker.ready()
    assert "no answer for 1 s" in worker.said


def test_a_stop_lets_the_running_job_end(start: Start, tmp_path: Path) -> None:
    worker = start()
    server = worker.ready().server
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
    assert not alive(server)
    assert worker.state.phase == "stopped"


def test_a_stop_kills_what_is_late(start: Start) -> None:
    worker = start(STANDIN_FAULT="stubborn", STOP_TIMEOUT="0.3")
    server = worker.ready().server
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 5
    assert time.monotonic() - began < 5
    assert not alive(server)


def test_a_stop_while_starting_ends_at_once(start: Start) -> None:
    worker = start()
    worker.until(lambda: worker.state.server, "start")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert not alive(worker.state.server)


def test_a_killed_supervisor_takes_the_server_with_it(start: Start) -> None:
    worker = start()
    server = worker.ready().server
    worker.process.kill()
    worker.until(lambda: not alive(server), "the server's end")


def test_a_missing_python_is_one_line_and_an_exit_code(start: Start) -> None:
    worker = start(WEBUI_PYTHON="/nowhere/python")
    assert worker.ended() == 1
    assert "event=start-failed" in worker.said
    assert "Traceback" not in worker.said


def test_a_strict_preflight_that_fails_ends_the_worker_before_it_is_ready(start: Start) -> None:
    worker = start(PREFLIGHT="strict")  # there is no model file
    assert worker.ended() == 3
    assert "event=ready" not in worker.said
    assert "code=model-missing" in worker.said


def test_a_preflight_that_only_warns_lets_the_worker_serve(start: Start) -> None:
    worker = start(PREFLIGHT="warn")
    worker.ready()
    worker.until(lambda: "event=preflight-done" in worker.said, "preflight")
    assert worker.draw().status == 200
