"""Downloads that jobs ask for reach nothing but the internet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.common.fetch import public_address
from scripts.common.fetch.http import open_url, ssl_context
from scripts.common.fetch.http_errors import RetryableError
from scripts.common.fetch.public_address import is_public
from scripts.common.fetch.spec import RetryPolicy
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, FaultServer, misbehaving
from tests.support.tls import serve_tls

PUBLIC_ONLY = RetryPolicy(stall_timeout=5.0, public_only=True)


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count 127.0.0.1 as an address of the internet, and no other of this machine."""
    monkeypatch.setattr(public_address, "is_public", lambda address: address == "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with misbehaving(b"content") as running:
        yield running


def read(url: str) -> bytes:
    response = open_url(url, headers={}, token="", policy=PUBLIC_ONLY)
    try:
        return response.read_some(1000)
    finally:
        response.close()


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_an_address_of_a_network_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433"])
def test_a_loopback_address_is_refused_however_it_is_written(
    server: FaultServer, host: str
) -> None:
    assert user_error(read, f"http://{host}:{server.server_port}/").code == "address-not-public"
    assert not server.asked


@pytest.mark.usefixtures("loopback_is_public")
def test_a_public_address_is_read(server: FaultServer) -> None:
    assert read(f"{server.url}/file") == b"content"


@pytest.mark.parametrize("target", ["127.0.0.2", "localhost.localdomain", "0.0.0.0"])
@pytest.mark.usefixtures("loopback_is_public")
def test_a_redirect_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    known = {"localhost.localdomain": "127.0.0.3"}
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: look_up(known.get(host, host), *a, **k)
    )
    with misbehaving(b"inside") as inside:
        to = f"http://{target}:{inside.server_port}/"
        with misbehaving(b"", Behaviour(status=302, headers={"Location": to})) as outside:
            assert user_error(read, outside.url).code == "address-not-public"
        assert not inside.asked


@pytest.mark.usefixtures("loopback_is_public")
def test_a_redirect_to_a_local_file_is_refused() -> None:
    to_file = Behaviour(status=302, headers={"Location": "file:///etc/passwd"})
    with misbehaving(b"", to_file) as server:
        assert user_error(read, server.url).code == "download-refused"


def test_a_local_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    assert user_error(read, (tmp_path / "secret").as_uri()).code == "download-refused"


@pytest.mark.usefixtures("loopback_is_public")
def test_the_second_answer_of_a_name_server_is_never_asked_for(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def rebind(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "rebinding.test":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    assert read(f"http://rebinding.test:{server.server_port}/") == b"content"
    assert asked == ["rebinding.test"]
    assert server.asked[0].headers["Host"] == f"rebinding.test:{server.server_port}"


@pytest.mark.usefixtures("loopback_is_public")
def test_a_name_with_one_private_address_is_refused(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    rows = [(*row, (address, server.server_port)) for address in ("127.0.0.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    error = user_error(read, f"http://both.test:{server.server_port}/")
    assert error.code == "address-not-public"
    assert "10.0.0.1" not in str(error)


@pytest.mark.usefixtures("loopback_is_public")
def test_a_proxy_is_not_used(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:9")
    assert read(server.url) == b"content"


def test_a_name_without_address_may_be_tried_again() -> None:
    with pytest.raises(RetryableError):
        read("http://no-such-name.invalid/")


@pytest.mark.usefixtures("loopback_is_public")
def test_a_certificate_is_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving(b"content") as server:
        bundle = serve_tls(server, tmp_path)  # for 127.0.0.1, which localhost leads to
        ssl_context("")  # the certificates of another environment are loaded already
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        assert read(f"https://127.0.0.1:{server.server_port}/") == b"content"
        error = user_error(read, f"https://localhost:{server.server_port}/")
        assert error.code == "certificate"
