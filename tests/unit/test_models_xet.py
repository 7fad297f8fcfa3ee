"""Use the Hub's chunked transfer where offered, verify it, and drop it when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.common.fetch.spec import VerifiedFile
from scripts.host.models import hub_client
from tests.support.checkout import (
    Warnings,
    make_checkout,
    prefetched,
    safetensors_bytes,
    sha,
)
from tests.support.hub import HubServer, hub

CHECKPOINT = safetensors_bytes()


@pytest.fixture(autouse=True)
def _xet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setattr(hub_client, "SMALLEST", 1)
    if not hub_client.has_xet():
        pytest.skip("hf_xet has no wheel for this machine")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    file = tmp_path / "hub" / "o" / "big" / "m.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(CHECKPOINT)
    with hub(tmp_path / "hub") as running:
        running.is_xet = True
        yield running


def run(tmp_path: Path, server: HubServer, warnings: Warnings | None = None) -> VerifiedFile:
    source = {"hub": "o/big", "file": "m.safetensors", "revision": "main"}
    model = {"name": "big", "source": source, "path": "/model.safetensors"}
    mirrors = {"huggingface": server.url}
    root = make_checkout(tmp_path / "c", {**model, "sha256": sha(CHECKPOINT)}, mirrors=mirrors)
    return prefetched(root, display=warnings)[0]


def bodies(server: HubServer, part: str) -> int:
    return sum(method == "GET" and part in path for method, path, _ in server.requests)


def leftovers(file: VerifiedFile) -> list[str]:
    return [path.name for path in file.path.parent.iterdir() if "partial" in path.name]


def test_chunks_are_used_where_offered(tmp_path: Path, server: HubServer) -> None:
    warnings = Warnings()
    file = run(tmp_path, server, warnings)
    assert (file.state, file.sha256, warnings.texts) == ("fetched", sha(CHECKPOINT), [])
    assert bodies(server, "/xorb/") > 0
    assert bodies(server, "/cdn/") == 0
    assert leftovers(file) == []


def test_wrong_chunks_are_replaced_by_a_plain_download(tmp_path: Path, server: HubServer) -> None:
    server.damages_xorbs = True
    file = run(tmp_path, server)
    assert (file.sha256, file.path.read_bytes()) == (sha(CHECKPOINT), CHECKPOINT)
    assert bodies(server, "/cdn/") >= 1
    assert leftovers(file) == []


def test_xet_can_be_switched_off(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    assert run(tmp_path, server).state == "fetched"
    assert bodies(server, "/xorb/") == 0
    assert bodies(server, "/cdn/") == 1


def test_failing_token_endpoint_means_a_plain_download(tmp_path: Path, server: HubServer) -> None:
    server.refuses_xet_tokens = True
    warnings = Warnings()
    assert run(tmp_path, server, warnings).state == "fetched"
    assert "going on without it" in warnings.texts[0]
    assert bodies(server, "/cdn/") == 1
