"""Which files are taken at all: pins, trust on first use, pickles, and names that servers give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.lock import read_lock
from scripts.host.models.prefetch import verified_path
from tests.support.checkout import (
    MANNER,
    from_url,
    loaded_from,
    make_checkout,
    plain_environment,
    run,
    safetensors_bytes,
    sha,
)
from tests.support.fault_server import Behaviour, misbehaving

CHECKPOINT = safetensors_bytes()
TRUSTING = dataclasses.replace(MANNER, trust_on_first_use=True)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch)


def test_an_unpinned_url_is_refused_then_trusted_once_and_pinned(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/m.safetensors?key=secret"))
        with pytest.raises(UserError) as caught:
            run(root)
        assert caught.value.code == "unpinned-url"
        assert "secret" not in str(caught.value)
        assert server.asked == []
        run(root, manner=TRUSTING)
        locked = read_lock(root).models["u"].files["m.safetensors"]
        assert (locked.sha256, locked.size) == (sha(CHECKPOINT), len(CHECKPOINT))
        assert run(root)[0].state == "cached"


def test_a_url_that_changed_after_it_was_trusted_is_refused(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/m.safetensors"))
        path = run(root, manner=TRUSTING)[0].path
        path.unlink()
        server.content = safetensors_bytes(seed=2)
        with pytest.raises(UserError) as caught:
            run(root)
    assert caught.value.code == "wrong-bytes"


def test_the_token_of_a_host_comes_from_the_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_127_0_0_1", "secret")
    with misbehaving(CHECKPOINT) as server:
        url = f"{server.url}/m.safetensors"
        run(make_checkout(tmp_path / "c", from_url(url, sha256=sha(CHECKPOINT))))
        assert server.asked[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.PTH"])
def test_a_pickle_is_refused_by_its_name_before_anything_is_fetched(
    tmp_path: Path, name: str
) -> None:
    with misbehaving(b"") as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/{name}", path=f"/{name}"))
        with pytest.raises(UserError) as caught:
            run(root)
        assert server.asked == []
    assert caught.value.code == "pickle-refused"


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02}q", b"\x80\x04\x95"])
def test_a_pickle_under_another_name_is_refused_unless_allowed(
    tmp_path: Path, start: bytes
) -> None:
    content = start + bytes(100)
    with misbehaving(content) as server:
        model = from_url(f"{server.url}/download/7", path="/embedding", sha256=sha(content))
        with pytest.raises(UserError) as caught:
            run(make_checkout(tmp_path / "1", model))
        assert caught.value.code == "pickle-refused"
        allowed = make_checkout(tmp_path / "2", {**model, "allow_pickle": True})
        assert run(allowed)[0].state == "fetched"
        # What one checkout allowed, another that shares the store still refuses.
        (tmp_path / "1" / "models").rename(tmp_path / "gone")
        (tmp_path / "1" / "models").symlink_to(allowed / "models")
        with pytest.raises(UserError) as caught:
            run(tmp_path / "1")
        assert caught.value.code == "pickle-refused"


def test_a_name_sent_by_the_server_is_judged_too(tmp_path: Path) -> None:
    content = b"anything"
    sent = {"Content-Disposition": 'attachment; filename="evil.ckpt"'}
    with misbehaving(content, Behaviour(headers=sent)) as server:
        model = from_url(f"{server.url}/download/7", path="/embedding", sha256=sha(content))
        with pytest.raises(UserError) as caught:
            run(make_checkout(tmp_path / "c", model))
    assert caught.value.code == "pickle-refused"
    assert "evil.ckpt" in str(caught.value)


def test_what_is_no_safetensors_file_never_gets_the_name(tmp_path: Path) -> None:
    broken = CHECKPOINT + b"\0"
    with misbehaving(broken) as server:
        model = from_url(f"{server.url}/m.safetensors", sha256=sha(broken))
        root = make_checkout(tmp_path / "c", model)
        with pytest.raises(UserError) as caught:
            run(root)
    assert caught.value.code == "not-safetensors"
    assert not list((root / "models").rglob("*.safetensors"))


def test_a_server_that_names_a_safetensors_file_must_send_one(tmp_path: Path) -> None:
    content = b"not one"
    sent = {"Content-Disposition": 'attachment; filename="lora.safetensors"'}
    with misbehaving(content, Behaviour(headers=sent)) as server:
        model = from_url(f"{server.url}/download/7", path="/lora", sha256=sha(content))
        with pytest.raises(UserError) as caught:
            run(make_checkout(tmp_path / "c", model))
    assert caught.value.code == "not-safetensors"


def test_a_url_without_a_file_name_is_named_after_its_place_in_the_image(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        model = from_url(f"{server.url}/api/download/7?fp16=1", sha256=sha(CHECKPOINT))
        root = make_checkout(tmp_path / "c", model)
        run(root)
    assert verified_path(loaded_from(root), "u").name == "model.safetensors"
