"""Downloads through rate limits, proxies, redirects and addresses as real networks have them."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import close_session

from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy
from scripts.common.fetch.transfer import fetch_verified
from scripts.host.models.artifacts import Artifact, image_artifacts
from scripts.host.models.hub_client import Hub, resolve_at_hub
from tests.support.checkout import loaded_from, make_checkout
from tests.support.downloading import CONTENT, HALF, OTHER, QUICK, fetch, sha, spec_of
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, FaultServer, misbehaving
from tests.support.hub import HubServer, hub
from tests.support.proxy import Proxy, proxying
from tests.support.tls import reuse_certificate, serve_tls

MANY = Behaviour(status=429, headers={"RateLimit": '"resolvers";r=0;t=1'})


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "store" / "file"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def at_hub(folder: Path) -> Iterator[tuple[HubServer, Artifact, Hub]]:
    """Serve a repository with one file; yield the stand-in, the file, and the Hub to ask."""
    close_session()  # the client keeps the proxies that it began with
    repo = folder / "hub" / "o" / "r"
    repo.mkdir(parents=True)
    (repo / "x.safetensors").write_bytes(CONTENT)
    model = {"name": "m", "path": "/m", "source": {"hub": "o/r", "file": "x.safetensors"}}
    with hub(folder / "hub") as server:
        root = make_checkout(folder / "c", model)
        loaded = loaded_from(root, f"mirrors.huggingface={server.url}")
        (artifact,) = image_artifacts(loaded, ["m"])
        yield server, artifact, Hub.from_config(loaded)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_the_hubs_rate_limit_says_how_long_to_wait(dest: Path) -> None:
    with misbehaving(CONTENT, MANY, Behaviour()) as server:
        started = time.monotonic()
        fetch(server, dest)
    assert 1 <= time.monotonic() - started < 10


def test_a_window_that_still_has_requests_is_not_waited_for(dest: Path) -> None:
    left = replace(MANY, headers={"RateLimit": '"resolvers";r=3;t=3600'})
    with misbehaving(CONTENT, left, Behaviour()) as server:
        fetch(server, dest)


def test_the_limit_of_requests_is_named_with_what_helps(dest: Path) -> None:
    said = b'{"error": "We had to rate limit your IP"}'
    with misbehaving(CONTENT, replace(MANY, headers={}, content=said)) as server:
        error = user_error(fetch, server, dest)
    assert "429 Too Many Requests: We had to rate limit your IP" in error.message
    assert "limits requests" in error.hint


def test_waits_of_many_workers_come_apart(dest: Path) -> None:
    details: list[str] = []

    def note(state: str, _done: int, _total: int | None, detail: str = "") -> None:
        if state == "retrying":
            details.append(detail.partition("again in ")[2])

    with misbehaving(CONTENT, *[Behaviour(status=503)] * 3, Behaviour()) as server:
        policy = RetryPolicy(attempts=5, pause=0.2)
        fetch_verified(spec_of(server), dest, policy=policy, on_progress=note)
    assert len(details) == 3


def test_a_file_joined_of_two_contents_is_fetched_whole_once_more(dest: Path) -> None:
    """A mirror behind one name holds another file, and its servers give the same ETag."""
    script = [Behaviour(stop_at=HALF, content=OTHER), Behaviour(conditions=False), Behaviour()]
    with misbehaving(CONTENT, *script) as server:
        assert fetch(server, dest).sha256 == sha(CONTENT)
        assert [each.headers.get("Range") for each in server.asked] == [
            None,
            f"bytes={HALF}-",
            None,
        ]
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["/a b/c d.dat", "/mod\u00e8le/\u6a21.dat", "/a%20b/%C3%A8.dat"])
def test_a_redirect_with_spaces_and_letters_is_followed(dest: Path, name: str) -> None:
    location = name.encode().decode("latin-1")  # as servers send UTF-8
    away = Behaviour(status=302, headers={"Location": location})
    with misbehaving(CONTENT, away, Behaviour()) as server:
        assert fetch(server, dest).sha256 == sha(CONTENT)
        asked = server.asked[1].path
    assert asked.isascii()
    assert " " not in asked


def test_an_address_with_letters_is_asked_in_its_encoded_form(dest: Path) -> None:
    with misbehaving(CONTENT) as server:
        spec = ArtifactSpec(f"{server.url}/mod\u00e8le/\u6a21.dat", "file.dat", sha(CONTENT))
        fetch_verified(spec, dest, policy=QUICK)
        assert server.asked[0].path == "/mod%C3%A8le/%E6%A8%A1.dat"


def test_a_host_with_letters_is_asked_by_its_ascii_name(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving(CONTENT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        spec = ArtifactSpec("http://b\u00fccher.invalid/file", "file.dat", sha(CONTENT))
        fetch_verified(spec, dest, policy=QUICK)
        assert proxy.asked[0].path == "http://xn--bcher-kva.invalid/file"


@contextmanager
def ipv6_server(*script: Behaviour) -> Iterator[FaultServer]:
    """Serve CONTENT at ::1, or skip where there is no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with misbehaving(CONTENT, *script, host="::1") as server:
        yield server


def test_an_ipv6_address_is_reached(dest: Path) -> None:
    with ipv6_server() as server:
        spec = ArtifactSpec(f"http://[::1]:{server.server_port}/file", "file.dat", sha(CONTENT))
        assert fetch_verified(spec, dest, policy=QUICK).sha256 == sha(CONTENT)


@pytest.mark.parametrize("exception", ["127.0.0.0/8", "10.0.0.0/8, 127.0.0.1", "*"])
def test_no_proxy_excepts_ranges_of_addresses(
    dest: Path, monkeypatch: pytest.MonkeyPatch, exception: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", exception)
    with misbehaving(CONTENT) as server:
        assert fetch(server, dest).state == "fetched"


@pytest.mark.parametrize(
    ("exception", "is_excepted"),
    [("::/64", True), ("fd00::/8, [::1]", True), ("*", True), ("fd00::/8,127.0.0.0/8", False)],
)
def test_no_proxy_excepts_ranges_of_ipv6(
    dest: Path, monkeypatch: pytest.MonkeyPatch, exception: str, is_excepted: bool
) -> None:
    monkeypatch.setenv("no_proxy", exception)
    away = Behaviour(status=302, headers={"Location": "/elsewhere"})
    with ipv6_server(away, Behaviour()) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        spec = ArtifactSpec(f"http://[::1]:{server.server_port}/file", "file.dat", sha(CONTENT))
        if is_excepted:
            assert fetch_verified(spec, dest, policy=QUICK).state == "fetched"
        else:
            assert "the proxy" in user_error(fetch_verified, spec, dest, policy=QUICK).message


def test_no_proxy_excepts_ranges_for_the_hub_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with at_hub(tmp_path) as (_, artifact, at):
        assert resolve_at_hub(artifact, at).spec.sha256 == sha(CONTENT)


def test_nothing_but_the_mirror_of_the_hub_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(Proxy()) as proxy, at_hub(tmp_path) as (_, artifact, at):
        monkeypatch.setenv("https_proxy", proxy.url)
        resolve_at_hub(artifact, at)
        assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_as_such(
    dest: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:s3cret@{proxy}")
    spec = ArtifactSpec(f"{scheme}://models.invalid/file", "file.dat", sha(CONTENT))
    error = user_error(fetch_verified, spec, dest, policy=QUICK)
    assert error.code == "download-broken"
    assert f"the proxy http://{proxy} cannot be used: " in error.message
    assert "no_proxy" in error.hint
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(("status", "hint"), [(407, "USER:PASSWORD"), (403, "no_proxy")])
def test_a_proxy_that_refuses_is_not_asked_again(
    dest: Path, monkeypatch: pytest.MonkeyPatch, status: int, hint: str
) -> None:
    with proxying(Proxy(refusal=status)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        spec = ArtifactSpec("https://models.invalid/file", "file.dat", sha(CONTENT))
        error = user_error(fetch_verified, spec, dest, policy=QUICK)
        assert proxy.asked == ["models.invalid:443"]
    assert error.code == "download-refused"
    assert f"the proxy {proxy.url} refuses" in error.message
    assert hint in error.hint


def test_a_proxy_that_wants_a_login_for_http_is_named(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving(CONTENT, Behaviour(status=407)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        spec = ArtifactSpec("http://models.invalid/file", "file.dat", sha(CONTENT))
        error = user_error(fetch_verified, spec, dest, policy=QUICK)
    assert f"the proxy {proxy.url} refuses: 407" in error.message


@pytest.mark.parametrize("by_tls", [False, True], ids=["http", "https"])
def test_a_proxy_tunnels_to_an_https_server(
    dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    with misbehaving(CONTENT) as server:
        cert = serve_tls(server, tmp_path)
        address = server.url.replace("http:", "https:")
        proxy = Proxy()
        if by_tls:
            reuse_certificate(proxy, tmp_path)
        with proxying(proxy):
            scheme = "https" if by_tls else "http"
            monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{proxy.server_port}")
            policy = replace(QUICK, ca_bundle=str(cert))
            spec = ArtifactSpec(f"{address}/file", "file.dat", sha(CONTENT))
            assert fetch_verified(spec, dest, policy=policy).sha256 == sha(CONTENT)
        assert proxy.asked == [f"127.0.0.1:{server.server_port}"]


needs_socks = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("socks", "socksio"))),
    reason="an older lock's packages are installed; run: scripts/bootstrap true",
)


@needs_socks
@pytest.mark.parametrize("by_tls", [False, True], ids=["http", "https"])
def test_a_socks_proxy_resolves_names_and_takes_a_login(
    dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    with misbehaving(CONTENT) as server, proxying(Proxy(socks=True, login="me:s3cret")) as proxy:
        scheme, host = ("https", "127.0.0.1") if by_tls else ("http", "models.invalid")
        policy = replace(QUICK, ca_bundle=str(serve_tls(server, tmp_path))) if by_tls else QUICK
        monkeypatch.setenv("all_proxy", f"socks5h://me:s3cret@127.0.0.1:{proxy.server_port}")
        target = f"{host}:{server.server_port}"
        spec = ArtifactSpec(f"{scheme}://{target}/file", "file.dat", sha(CONTENT))
        assert fetch_verified(spec, dest, policy=policy).sha256 == sha(CONTENT)
        assert proxy.asked == [target]


@needs_socks
def test_the_hub_is_asked_through_a_socks_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(Proxy(socks=True)) as proxy, at_hub(tmp_path) as (server, artifact, at):
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.server_port}")
        assert resolve_at_hub(artifact, at).spec.sha256 == sha(CONTENT)
        assert set(proxy.asked) == {f"127.0.0.1:{server.server_port}"}


@needs_socks
@pytest.mark.parametrize(
    ("proxy", "expected", "hint"),
    [
        (Proxy(socks=True, login="me:other"), "refuses: SOCKS5 authentication failed", "a login"),
        (Proxy(socks=True, refusal=2), "cannot be used: 0x02: Connection not allowed", "no_proxy"),
        (None, "cannot be used: ", "no_proxy"),
    ],
    ids=["wrong login", "not allowed", "dead"],
)
def test_a_socks_proxy_that_fails_is_named_as_such(
    dest: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy | None, expected: str, hint: str
) -> None:
    with proxying(proxy) if proxy else nullcontext():
        at = f"127.0.0.1:{proxy.server_port if proxy else free_port()}"
        monkeypatch.setenv("all_proxy", f"socks5h://me:s3cret@{at}")
        spec = ArtifactSpec("http://models.invalid/file", "file.dat", sha(CONTENT))
        error = user_error(fetch_verified, spec, dest, policy=QUICK)
    assert f"the proxy socks5h://{at} {expected}" in error.message
    assert hint in error.hint
    assert "s3cret" not in str(error)


def test_a_socks_proxy_without_its_package_is_refused_at_once() -> None:
    """The worker's environment has no such package."""
    code = """
import sys
sys.modules["socks"] = None
from scripts.common.fetch import http, spec
http.open_url("http://models.invalid", headers={}, token="", policy=spec.RetryPolicy())
"""
    environment = {**os.environ, "all_proxy": "socks5://127.0.0.1:1"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "SOCKS needs PySocks" in ended.stderr.splitlines()[-1]


def test_a_token_that_the_hub_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with at_hub(tmp_path) as (server, artifact, at):
        server.refused_token = "hf_wrong"  # noqa: S105 - not one
        error = user_error(resolve_at_hub, artifact, at)
    assert error.code == "download-refused"
    assert "Invalid credentials in Authorization header" in error.message
    assert "HF_TOKEN is valid" in error.hint
