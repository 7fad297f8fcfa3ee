"""The engine's client against a stand-in of its API: errors, timeouts, containers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import docker
import pytest
import requests
import urllib3

from scripts.common.diagnostics.error import UserError
from scripts.host.engine import client as engine_client
from scripts.host.engine.client import client, docker_errors
from scripts.host.engine.containers import run_container
from tests.support.serving import Quiet, Server, running

SLOW = 2.0  # seconds that a push says nothing
LOST = "the connection to the engine was lost: "


class Engine(Server):
    """A stand-in for the engine; no container of it starts."""

    removed = 0  # containers


class _Api(Quiet):
    """The part of the API that the tests use (https://docs.docker.com/reference/api/engine/)."""

    server: Engine

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        body = b'{"ApiVersion": "1.45"}' if self.path.endswith("/version") else b'{"Id": "1"}'
        self.answer(200, body, {"Content-Type": "application/json"})

    def do_DELETE(self) -> None:  # noqa: N802 - http.server's own name
        self.server.removed += 1
        self.answer(204)

    def do_POST(self) -> None:  # noqa: N802 - http.server's own name
        self.drain()
        if self.path.endswith("/start"):
            return self.answer(500, b'{"message": "port is already allocated"}')
        if "/push" not in self.path:
            return self.answer(201, b'{"Id": "1"}', {"Content-Type": "application/json"})
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(SLOW)
        event = b'{"id": "a", "status": "Pushed"}'
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        return None


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with running(Engine(("127.0.0.1", 0), _Api)) as server:
        assert isinstance(server, Engine)
        monkeypatch.setenv("DOCKER_HOST", server.url.replace("http", "tcp"))
        yield server


def push() -> list[str]:
    with docker_errors("host/me:1"):
        events = client().api.push("host/me:1", stream=True, decode=True)
        return [event["status"] for event in events]


def test_slow_push_outlives_the_timeout_for_short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "_TIMEOUT", SLOW * 0.75)
    assert push() == ["Pushed"]


def test_silent_engine_during_a_push_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "_SILENCE", SLOW / 2)
    with pytest.raises(UserError, match=f"{LOST}.*timed out") as caught:
        push()
    assert caught.value.code == "engine-missing"


def test_missing_engine_is_a_user_error(engine: Engine) -> None:
    engine.shutdown()
    engine.server_close()
    with pytest.raises(UserError, match="no Docker engine answers") as caught:
        client()
    assert caught.value.code == "engine-missing"


def test_container_that_does_not_start_is_removed(engine: Engine) -> None:
    with (
        pytest.raises(UserError) as caught,
        docker_errors(message="it does not run"),
        run_container(client(), "image", ["true"], keep=True),
    ):
        pytest.fail("it must not start")
    assert caught.value.code == "port-taken"
    assert engine.removed == 1


def test_kept_container_is_removed_only_after_an_error(engine: Engine) -> None:
    with run_container(client(), "image", start=False, keep=True):
        pass
    assert engine.removed == 0
    with (
        pytest.raises(ValueError, match="body"),
        run_container(client(), "image", keep=True, start=False),
    ):
        raise ValueError("body")
    assert engine.removed == 1


@pytest.mark.parametrize(
    ("error", "message", "code", "hint"),
    [
        (docker.errors.ImageNotFound("404"), "there is no such image", "", "see: docker image ls"),
        (
            docker.errors.APIError("500", explanation="Bind failed: port is already allocated"),
            "it failed: Bind failed: port is already allocated",
            "port-taken",
            "free one",
        ),
        (
            docker.errors.APIError("500", explanation='could not select device driver ""'),
            "it failed: could not select device driver",
            "gpu-not-given",
            "container toolkit",
        ),
        (
            docker.errors.APIError("409", explanation="conflict:\nimage is in use"),
            "it failed: conflict: image is in use",
            "",
            "see: docker info",
        ),
        (
            docker.errors.ContainerError(None, 1, "sh", "a", b"warning\nlast line\n"),
            "it failed: last line",
            "",
            "see: docker info",
        ),
        (
            docker.errors.ContainerError(None, 1, "a long script", "a", b""),
            "it failed: exit status 1",
            "",
            "see: docker info",
        ),
        (requests.ReadTimeout("read"), f"{LOST}read", "engine-missing", "invoke doctor"),
        (urllib3.exceptions.ProtocolError("eof"), f"{LOST}eof", "engine-missing", "invoke doctor"),
    ],
)
def test_engine_errors_become_user_errors(
    error: Exception, message: str, code: str, hint: str
) -> None:
    with pytest.raises(UserError) as caught, docker_errors("here", message="it failed"):
        raise error
    assert caught.value.message.startswith(message)
    assert (caught.value.location, caught.value.code) == ("here", code)
    assert hint in caught.value.hint
