"""One engine everywhere: what the SDK connects to is what the command line uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from scripts.host.engine import client as engine_client
from scripts.host.engine.client import client, find_address
from scripts.host.engine.containers import container_output
from scripts.host.engine.remote_port import forwarded_port
from tests.support.errors import user_error
from tests.support.images import base_download
from tests.support.running import invoke
from tests.support.serving import Quiet, Server, running
from tests.support.worker import free_port

SOCKET = Path("/var/run/docker.sock")


def make_context(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str) -> None:
    """Make a docker context and use it, with settings of the command line in a folder."""
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    make = ["docker", "context", "create", "mine", f"--docker=host={address}"]
    subprocess.run(make, check=True, capture_output=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")


@pytest.mark.skipif(not SOCKET.is_socket(), reason="the engine is elsewhere")
def test_context_in_use_decides_and_doctor_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image_config: Path
) -> None:
    (tmp_path / "sock").symlink_to(SOCKET)
    make_context(monkeypatch, tmp_path, f"unix://{tmp_path}/sock")
    assert client().info()["ServerVersion"]
    rows = json.loads(invoke("doctor", "--json", config=image_config).stdout)
    [evidence] = [row["evidence"] for row in rows if row["check"] == "engine"]
    assert f"at unix://{tmp_path}/sock" in evidence


def test_refusing_context_is_not_replaced_by_the_default_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_context(monkeypatch, tmp_path, f"unix://{tmp_path}/absent")
    error = user_error(client)
    assert (error.code, error.location) == ("engine-missing", f"unix://{tmp_path}/absent")


def test_absent_context_is_not_replaced_by_the_default_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "absent")
    error = user_error(client)
    assert (error.code, error.hint) == ("engine-missing", "see: docker context ls")


def test_docker_host_comes_before_the_context(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_context(monkeypatch, tmp_path, f"unix://{tmp_path}/absent")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{SOCKET}")
    assert find_address() == f"unix://{SOCKET}"


@pytest.mark.parametrize("by_context", [False, True])
def test_engine_over_ssh_runs_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, by_context: bool
) -> None:
    """A program in place of ssh runs here what it was to run on the other machine."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nunset DOCKER_HOST DOCKER_CONTEXT\nexec docker system dial-stdio\n")
    ssh.chmod(0o755)
    image = base_download()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if by_context:
        make_context(monkeypatch, tmp_path, "ssh://builder@elsewhere")
    else:
        monkeypatch.setenv("DOCKER_HOST", "ssh://builder@elsewhere")
    engine_client._forward.cache_clear()
    assert container_output(client(), image, ["echo", "ran"]) == "ran\n"


def test_refusing_ssh_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://builder@127.0.0.1:9")
    engine_client._forward.cache_clear()
    error = user_error(client)
    assert (error.code, error.location) == ("engine-missing", "ssh://builder@127.0.0.1:9")
    assert "refused" in error.message


FORWARDING_SSH = f"""#!{sys.executable}
import re, socket, sys
here, there = map(int, re.findall(r"127[.]0[.]0[.]1:([0-9]+)", sys.argv[sys.argv.index("-L") + 1]))
listener = socket.create_server(("127.0.0.1", here))
while True:
    with listener.accept()[0] as client:
        if request := client.recv(65536):
            with socket.create_connection(("127.0.0.1", there)) as server:
                server.sendall(request)
                client.sendall(server.recv(65536))
"""


class _Teapot(Quiet):
    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        self.answer(418)


def test_port_of_an_engine_over_ssh_is_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(FORWARDING_SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_HOST", "ssh://builder@elsewhere")
    with running(Server(("127.0.0.1", 0), _Teapot)) as server:
        taken = server.server_address[1]
        with forwarded_port(taken) as port:
            assert port != taken
            assert requests.get(f"http://127.0.0.1:{port}", timeout=10).status_code == 418
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}", timeout=10)


def test_port_is_that_of_an_engine_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{SOCKET}")
    with forwarded_port(3000) as port:
        assert port == 3000


def test_ssh_that_does_not_connect_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://builder@127.0.0.1:9")
    error = user_error(forwarded_port(free_port()).__enter__)
    assert error.location == "ssh://builder@127.0.0.1:9"
    assert "refused" in capfd.readouterr().err
