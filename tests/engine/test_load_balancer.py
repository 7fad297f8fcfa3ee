"""A worker of a load-balancing endpoint: A1111's own API through the checks that jobs pass."""

from __future__ import annotations

import base64
import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.images import decode_base64, decode_png
from scripts.container.status.state import read_job_counts
from tests.support.sdk_worker import JOB, serverless
from tests.support.worker import Worker, free_port


class Door:
    """Client of a worker's port."""

    def __init__(self, worker: Worker, port: int, health: int) -> None:
        self.worker, self.port, self.health = worker, port, health

    def send(
        self, method: str, path: str, body: Any = None, *, port: int = 0, login: str = ""
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and parsed body of an answer; status 0 where nobody answers."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        url = f"http://127.0.0.1:{port or self.port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, dict(answer.headers), json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, dict(error.headers), json.loads(text) if text else None
        except OSError:
            return 0, {}, None

    def ping(self) -> int:
        return self.send("GET", "/ping", port=self.health)[0]


@contextmanager
def door(tmp_path: Path, python: Path, **environment: str) -> Iterator[Door]:
    port, health = free_port(), free_port()
    ports = {"WORKER_MODE": "load-balancer", "PORT": str(port), "PORT_HEALTH": str(health)}
    with serverless(tmp_path, python, **ports, **environment) as worker:
        yield Door(worker, port, health)


@pytest.fixture(scope="module")
def lb(tmp_path_factory: pytest.TempPathFactory, runpod_python: Path) -> Iterator[Door]:
    """A worker that is ready."""
    folder = tmp_path_factory.mktemp("lb")
    with door(folder, runpod_python, STANDIN_STEP_SECONDS="0.1") as opened:
        opened.worker.ready()
        yield opened


def test_ping_says_starting_before_it_says_ready(tmp_path: Path, runpod_python: Path) -> None:
    with door(tmp_path, runpod_python) as lb:
        seen: list[int] = []

        def is_ready() -> bool:
            seen.append(lb.ping())
            return seen[-1] == 200

        lb.worker.until(is_ready, "200 of /ping")
        changes = [each for at, each in enumerate(seen) if not at or seen[at - 1] != each]
        assert changes == [0, 204, 200]
        assert lb.worker.state.phase == "ready"


def test_answers_are_a1111s_own(lb: Door) -> None:
    status, headers, answer = lb.send("POST", "/sdapi/v1/txt2img", JOB)
    assert (status, set(answer)) == (200, {"images", "parameters", "info"})
    assert decode_png(decode_base64(answer["images"][0])).width == 64
    assert "X-Worker-Warnings" not in headers
    status, _, models = lb.send("GET", "/sdapi/v1/sd-models")
    assert (status, type(models)) == (200, list)
    assert lb.send("GET", "/sdapi/v1/progress?skip_current_image=true")[2]["progress"] == 0


def test_requests_pass_the_checks_of_jobs(lb: Door) -> None:
    status, _, answer = lb.send("POST", "/sdapi/v1/txt2img", {**JOB, "sampler_name": "none"})
    assert (status, answer["error"]) == (404, "name-unknown")
    status, _, answer = lb.send("POST", "/sdapi/v1/txt2img", {**JOB, "steps": "many"})
    assert (status, answer["error"]) == (422, "input-invalid")
    assert "steps" in answer["detail"]
    status, headers, _ = lb.send("POST", "/sdapi/v1/txt2img", {**JOB, "guidance_scale": 7})
    assert status == 200
    assert "did you mean cfg_scale" in json.loads(headers["x-worker-warnings"])[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/"), ("POST", "/sdapi/v1/server-kill"), ("GET", "/file=/etc/passwd")),
        *(("POST", "/sdapi/v1/nothing"), ("DELETE", "/sdapi/v1/txt2img")),
    ],
)
def test_other_routes_are_not_found(lb: Door, method: str, path: str) -> None:
    assert lb.send(method, path, {})[0] == 404


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(lb: Door, body: bytes) -> None:
    assert lb.send("POST", "/sdapi/v1/txt2img", body)[0] == 422


def test_options_are_undone_with_a_warning(lb: Door) -> None:
    status, headers, answer = lb.send("POST", "/sdapi/v1/options", {"CLIP_stop_at_last_layers": 2})
    assert (status, answer) == (200, None)
    assert "options that a job sets end with it" in headers["x-worker-warnings"]
    assert lb.send("GET", "/sdapi/v1/options")[2]["CLIP_stop_at_last_layers"] == 1


def test_images_are_drawn_in_turn_and_progress_does_not_wait(lb: Door) -> None:
    answers: list[int] = []

    def draw() -> None:
        answers.append(lb.send("POST", "/sdapi/v1/txt2img", {**JOB, "steps": 8})[0])

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    lb.worker.until(
        lambda: lb.send("GET", "/sdapi/v1/progress")[2]["state"]["job_count"], "progress"
    )
    assert read_job_counts(lb.worker.dir).running >= 2
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    lb.worker.until(lambda: not read_job_counts(lb.worker.dir).running, "the end of all")


def test_an_interrupt_ends_the_image_that_is_drawn(lb: Door) -> None:
    answers: list[Any] = []
    job = {**JOB, "steps": 100}
    thread = threading.Thread(
        target=lambda: answers.append(lb.send("POST", "/sdapi/v1/txt2img", job))
    )
    thread.start()
    lb.worker.until(
        lambda: lb.send("GET", "/sdapi/v1/progress")[2]["state"]["sampling_step"], "a step"
    )
    assert lb.send("POST", "/sdapi/v1/interrupt")[0] == 200
    thread.join(8)
    assert not thread.is_alive()
    assert answers[0][0] == 200


def test_a_stop_lets_the_running_request_end(tmp_path: Path, runpod_python: Path) -> None:
    with door(tmp_path, runpod_python, STANDIN_STEP_SECONDS="0.2") as lb:
        lb.worker.ready()
        answers: list[int] = []
        body = {**JOB, "steps": 10}
        threads = [
            threading.Thread(
                target=lambda: answers.append(lb.send("POST", "/sdapi/v1/txt2img", body)[0])
            )
            for _ in range(2)
        ]
        threads[0].start()
        lb.worker.until(
            lambda: lb.send("GET", "/sdapi/v1/progress")[2]["state"]["job_count"], "drawing"
        )
        threads[1].start()
        lb.worker.until(lambda: read_job_counts(lb.worker.dir).running == 2, "two requests")
        lb.worker.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert answers == [200, 503], "the one that waited may go to another worker"
        assert lb.worker.ended() == 0


def test_a_login_is_asked_for_where_there_is_one(tmp_path: Path, runpod_python: Path) -> None:
    with door(tmp_path, runpod_python, API_AUTH="ann:secret,bob:other") as lb:
        lb.worker.ready()
        for login in ("", "ann:wrong", "ann"):
            status, headers, _ = lb.send("GET", "/sdapi/v1/samplers", login=login)
            assert (status, headers["www-authenticate"]) == (401, "Basic")
        assert lb.send("GET", "/sdapi/v1/samplers", login="bob:other")[0] == 200
        assert lb.ping() == 200


def test_a_port_in_use_ends_the_worker(tmp_path: Path, runpod_python: Path, lb: Door) -> None:
    environment = {"PORT": str(lb.port), "PORT_HEALTH": "", "WORKER_MODE": "load-balancer"}
    with serverless(tmp_path, runpod_python, RESTARTS="0", **environment) as worker:
        assert worker.ended() == 4
        assert "[port-taken]" in worker.log_text
