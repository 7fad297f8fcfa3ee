"""The Hub's chunked transfer: used where offered, verified, and dropped when it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.host.models import xet
from scripts.host.models.prefetch import Result, prefetch
from tests.support.checkout import (
    MANNER,
    loaded_from,
    make_checkout,
    plain_environment,
    safetensors_bytes,
    sha,
)
from tests.support.hub import HubServer, hub

CHECKPOINT = safetensors_bytes()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain_environment(monkeypatch)
    monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setattr(xet, "SMALLEST", 1)
    if not xet.is_available():
        pytest.skip("hf_xet has no wheel for this machine")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    file = tmp_path / "hub" / "o" / "big" / "m.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(CHECKPOINT)
    with hub(tmp_path / "hub") as running:
        running.is_xet = True
        yield running


def run(tmp_path: Path, server: HubServer, warned: list[str]) -> Result:
    source = {"hub": "o/big", "file": "m.safetensors", "revision": "main"}
    model = {"name": "big", "source": source, "path": "/model.safetensors"}
    mirrors = {"huggingface": server.url}
    root = make_checkout(tmp_path / "c", {**model, "sha256": sha(CHECKPOINT)}, mirrors=mirrors)
    manner = dataclasses.replace(MANNER, warn=warned.append)
    return prefetch(loaded_from(root), manner=manner)[0]


def bodies(server: HubServer, part: str) -> int:
    return sum(method == "GET" and part in path for method, path, _ in server.requests)


def leftovers(result: Result) -> list[str]:
    return [path.name for path in result.path.parent.iterdir() if "partial" in path.name]


def test_chunks_are_fetched_where_the_hub_offers_them(tmp_path: Path, server: HubServer) -> None:
    warned: list[str] = []
    result = run(tmp_path, server, warned)
    assert (result.state, result.sha256, warned) == ("fetched", sha(CHECKPOINT), [])
    assert bodies(server, "/xorb/") > 0
    assert bodies(server, "/cdn/") == 0
    assert leftovers(result) == []


def test_wrong_chunks_are_noticed_and_the_plain_file_is_fetched(
    tmp_path: Path, server: HubServer
) -> None:
    server.damages_xorbs = True
    result = run(tmp_path, server, [])
    assert (result.sha256, result.path.read_bytes()) == (sha(CHECKPOINT), CHECKPOINT)
    assert bodies(server, "/cdn/") >= 1
    assert leftovers(result) == []


def test_it_can_be_switched_off(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    assert run(tmp_path, server, []).state == "fetched"
    assert bodies(server, "/xorb/") == 0
    assert bodies(server, "/cdn/") == 1


def test_a_failing_token_endpoint_leaves_the_plain_way(tmp_path: Path, server: HubServer) -> None:
    server.refuses_xet_tokens = True
    warned: list[str] = []
    assert run(tmp_path, server, warned).state == "fetched"
    assert "going on without it" in warned[0]
    assert bodies(server, "/cdn/") == 1
