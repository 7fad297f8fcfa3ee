"""Accept or refuse files: pins, trust on first use, pickles, names that servers give."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from scripts.host.config.lock import read_lock
from scripts.host.models.artifacts import image_artifacts
from scripts.host.models.prefetch import verified_path
from tests.support.checkout import (
    from_url,
    loaded_from,
    make_checkout,
    prefetched,
    safetensors_bytes,
    sha,
    store_of,
)
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.pickles import Global, tensor, torch_legacy, torch_zip

CHECKPOINT = safetensors_bytes()


def test_unpinned_url_is_refused_then_trusted_once_and_pinned(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/m.safetensors?v=secret"))
        error = user_error(prefetched, root)
        assert error.code == "unpinned-url"
        assert "secret" not in str(error)
        assert server.asked == []
        prefetched(root, trust_on_first_use=True)
        locked = read_lock(root).models["u"].files["m.safetensors"]
        assert (locked.sha256, locked.size) == (sha(CHECKPOINT), len(CHECKPOINT))
        assert prefetched(root)[0].state == "cached"


def test_url_that_changed_after_it_was_trusted_is_refused(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/m.safetensors"))
        path = prefetched(root, trust_on_first_use=True)[0].path
        path.unlink()
        server.content = safetensors_bytes(seed=2)
        error = user_error(prefetched, root)
    assert error.code == "wrong-bytes"


def test_token_of_a_host_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_127_0_0_1", "secret")
    with misbehaving(CHECKPOINT) as server:
        url = f"{server.url}/m.safetensors"
        prefetched(make_checkout(tmp_path / "c", from_url(url, sha256=sha(CHECKPOINT))))
        assert server.asked[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.PTH"])
def test_pickle_name_is_refused_before_the_download(tmp_path: Path, name: str) -> None:
    with misbehaving(b"") as server:
        root = make_checkout(tmp_path / "c", from_url(f"{server.url}/{name}", path=f"/{name}"))
        error = user_error(prefetched, root)
        assert server.asked == []
    assert error.code == "pickle-refused"


@pytest.mark.parametrize(
    "content",
    [torch_zip({"a": tensor(1)}), torch_legacy({"a": tensor(1)}), pickle.dumps({"a": 1}, 4)],
)
def test_pickle_with_another_name_is_refused_unless_allowed(tmp_path: Path, content: bytes) -> None:
    with misbehaving(content) as server:
        model = from_url(f"{server.url}/download/7", path="/embedding", sha256=sha(content))
        error = user_error(prefetched, make_checkout(tmp_path / "1", model))
        assert error.code == "pickle-refused"
        allowed = make_checkout(tmp_path / "2", {**model, "allow_pickle": True})
        assert prefetched(allowed)[0].state == "fetched"
        # Another checkout that shares the store still refuses it.
        (tmp_path / "1" / "models").rename(tmp_path / "gone")
        (tmp_path / "1" / "models").symlink_to(allowed / "models")
        error = user_error(prefetched, tmp_path / "1")
        assert error.code == "pickle-refused"


def test_pickle_name_sent_by_the_server_is_refused(tmp_path: Path) -> None:
    content = b"anything"
    sent = {"Content-Disposition": 'attachment; filename="evil.ckpt"'}
    with misbehaving(content, Behaviour(headers=sent)) as server:
        model = from_url(f"{server.url}/download/7", path="/embedding", sha256=sha(content))
        error = user_error(prefetched, make_checkout(tmp_path / "c", model))
    assert error.code == "pickle-refused"
    assert "evil.ckpt" in str(error)


def test_invalid_safetensors_file_never_gets_its_name(tmp_path: Path) -> None:
    broken = CHECKPOINT + b"\0"
    with misbehaving(broken) as server:
        model = from_url(f"{server.url}/m.safetensors", sha256=sha(broken))
        root = make_checkout(tmp_path / "c", model)
        error = user_error(prefetched, root)
    assert error.code == "not-safetensors"
    assert not list((root / "models").rglob("*.safetensors"))


def test_server_that_names_a_safetensors_file_must_send_one(tmp_path: Path) -> None:
    content = b"not one"
    sent = {"Content-Disposition": 'attachment; filename="lora.safetensors"'}
    with misbehaving(content, Behaviour(headers=sent)) as server:
        model = from_url(f"{server.url}/download/7", path="/lora", sha256=sha(content))
        error = user_error(prefetched, make_checkout(tmp_path / "c", model))
    assert error.code == "not-safetensors"


def test_url_without_file_name_is_named_by_its_path_in_the_image(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        model = from_url(f"{server.url}/api/download/7?fp16=1", sha256=sha(CHECKPOINT))
        root = make_checkout(tmp_path / "c", model)
        prefetched(root)
    assert (
        verified_path(image_artifacts(loaded_from(root)), store_of(root)).name
        == "model.safetensors"
    )


def test_upscaler_that_is_a_pickle_is_fetched_after_its_imports_were_checked(
    tmp_path: Path,
) -> None:
    content = torch_zip({"params": tensor(3, 3)})
    with misbehaving(content) as server:
        model = from_url(f"{server.url}/4x.pth", sha256=sha(content))
        del model["path"]
        root = make_checkout(tmp_path / "c", {**model, "kind": "upscaler"})
        assert prefetched(root)[0].state == "fetched"
        assert prefetched(root)[0].state == "cached"
        server.content = torch_zip({"params": Global("os", "system", ("true",))})
        evil = {**model, "kind": "upscaler", "sha256": sha(server.content)}
        error = user_error(prefetched, make_checkout(tmp_path / "d", evil))
    assert error.code == "pickle-unsafe"
    assert not list((tmp_path / "d" / "models").rglob("*.partial"))


def test_page_in_place_of_a_model_never_gets_its_name(tmp_path: Path) -> None:
    page = b"<!doctype html><title>Log in</title>"
    with misbehaving(page) as server:
        model = from_url(f"{server.url}/lora", path="/lora", sha256=sha(page))
        root = make_checkout(tmp_path / "c", model)
        error = user_error(prefetched, root)
    assert error.code == "not-a-model"
    assert "(Log in)" in str(error)
