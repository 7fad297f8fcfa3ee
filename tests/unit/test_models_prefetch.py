"""Models from every kind of source into the store: pinned, verified, cached, shared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.models.artifacts import image_artifacts
from scripts.host.models.prefetch import verified_path
from tests.support.checkout import (
    Warnings,
    from_url,
    loaded_from,
    make_checkout,
    prefetch_models,
    prefetched,
    safetensors_bytes,
    sha,
    store_of,
)
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.hub import HubServer, commit_of, hub
from tests.support.tls import serve_tls

CHECKPOINT = safetensors_bytes()
TOKENIZER = {"config.json": b"{}", "vocab.json": b'{"a": 1}', "merges.txt": b"a b\n"}
PINNED = "32bd64288804d66eefd0ccbe215aa642df71cc41"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    root = tmp_path / "hub"
    files = {f"o/tok/{name}": content for name, content in TOKENIZER.items()}
    for name, content in {**files, "o/big/m.safetensors": CHECKPOINT}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    with hub(root) as running:
        yield running


def checkpoint(**changes: Any) -> dict[str, Any]:
    source = {"hub": "o/big", "file": "m.safetensors", "revision": "main"}
    return {"name": "big", "source": source, "path": "/model.safetensors", **changes}


def tokenizer() -> dict[str, Any]:
    source = {"hub": "o/tok", "files": list(TOKENIZER), "revision": PINNED}
    return {"name": "tok", "source": source, "path": "/hf/hub", "layout": "hub-cache"}


def checkout(root: Path, server: HubServer | None, *models: dict[str, Any]) -> Path:
    mirrors = {"mirrors": {"huggingface": server.url}} if server else {}
    return make_checkout(root / "checkout", *models, **mirrors)


def test_hub_files_are_fetched_once_and_found_by_name(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(), tokenizer())
    first = prefetch_models(root)
    assert [file.state for file in first.values()] == ["fetched"] * 4
    assert next(iter(first)).revision == commit_of(tmp_path / "hub" / "o" / "big")
    for artifact, file in first.items():
        name = root / "models" / "names" / artifact.model.name / artifact.file
        assert name.samefile(file.path)
    assert [file.state for file in prefetched(root)] == ["cached"] * 4


def test_unpinned_hub_file_is_fetched_with_a_warning(tmp_path: Path, server: HubServer) -> None:
    warnings = Warnings()
    prefetched(checkout(tmp_path, server, checkpoint()), display=warnings)
    assert "not pinned" in warnings.texts[0]
    assert "invoke pin" in warnings.texts[0]


def test_small_hub_file_must_match_its_git_blob(tmp_path: Path) -> None:
    etag = '"' + "0" * 40 + '"'
    act = Behaviour(etag=etag, ranges=False, headers={"X-Repo-Commit": PINNED})
    with misbehaving(b"not that blob", act) as liar:
        liar.RequestHandlerClass.do_HEAD = liar.RequestHandlerClass.do_GET  # type: ignore[attr-defined]  # answers HEAD alike
        model = {**tokenizer(), "source": {**tokenizer()["source"], "files": ["config.json"]}}
        root = make_checkout(tmp_path / "c", model, mirrors={"huggingface": liar.url})
        error = user_error(prefetched, root)
    assert error.code == "wrong-bytes"
    assert "git blob" in str(error)


def test_file_must_match_its_pin(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256="0" * 64))
    error = user_error(prefetched, root)
    assert error.code == "wrong-bytes"
    assert not [path for path in (root / "models").rglob("*") if path.is_file()]


def test_gated_model_needs_a_token(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub" / "o" / "big" / ".gated").write_text("letmein")
    root = checkout(tmp_path, server, checkpoint())
    with pytest.raises(UserError, match="gated") as caught:
        prefetched(root)
    assert "HF_TOKEN" in caught.value.hint
    pinned = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)))
    with pytest.raises(UserError, match="refused") as caught:
        prefetched(pinned)
    assert "terms" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "letmein")
    assert prefetched(root)[0].state == "fetched"


def test_stored_pinned_model_needs_no_network(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)), tokenizer())
    prefetched(root)
    server.requests.clear()
    assert {file.state for file in prefetched(root)} == {"cached"}
    assert server.requests == []


def test_stamp_is_trusted_until_the_file_changes_and_never_by_rehash(
    tmp_path: Path, server: HubServer
) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)))
    path = prefetched(root)[0].path
    time = path.stat().st_mtime_ns
    with path.open("r+b") as stream:
        stream.seek(-10, os.SEEK_END)
        stream.write(b"0123456789")
    os.utime(path, ns=(time, time))  # as if nothing had happened: only reading can tell
    assert prefetched(root)[0].state == "cached"
    error = user_error(prefetched, root, rehash=True)
    assert error.code == "model-damaged"
    os.utime(path, (1, 1))
    error = user_error(prefetched, root)
    assert error.code == "model-damaged"


def test_rehash_of_an_intact_file_verifies_it(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)))
    prefetched(root)
    assert prefetched(root, rehash=True)[0].state == "verified"


def test_local_file_is_copied_not_moved(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(CHECKPOINT)
    before = mine.stat()
    file = prefetched(checkout(tmp_path, None, from_url(mine.as_uri(), sha256=sha(CHECKPOINT))))[0]
    assert file.path.read_bytes() == CHECKPOINT
    assert (mine.stat().st_mtime_ns, mine.stat().st_nlink) == (before.st_mtime_ns, 1)


def test_content_with_two_names_is_stored_once(tmp_path: Path, server: HubServer) -> None:
    twin = checkpoint(name="twin", path="/twin.safetensors")
    root = checkout(tmp_path, server, checkpoint(), twin)
    one, two = prefetched(root)
    assert one.path == two.path
    assert {one.state, two.state} <= {"fetched", "waited", "cached"}


def test_failure_of_one_model_lets_the_others_finish(tmp_path: Path, server: HubServer) -> None:
    bad = checkpoint(name="bad", path="/bad.safetensors", sha256="0" * 64)
    root = checkout(tmp_path, server, bad, checkpoint())
    with pytest.raises(UserError):
        prefetched(root)
    assert prefetched(root, "big")[0].state == "cached"


def test_downloads_run_run_concurrently_up_to_the_limit(tmp_path: Path) -> None:
    pages = {f"/{seed}.safetensors": safetensors_bytes(400_000, seed) for seed in range(4)}

    def seconds(concurrency: int) -> float:
        with misbehaving(b"", Behaviour(rate=800_000)) as server:
            server.pages = pages
            models = [
                from_url(f"{server.url}{page}", name=f"m{i}", path=page, sha256=sha(content))
                for i, (page, content) in enumerate(pages.items())
            ]
            store = {"concurrency": concurrency, "path": "models"}
            root = make_checkout(tmp_path / str(concurrency), *models, store=store)
            started = time.monotonic()
            prefetched(root)
            return time.monotonic() - started

    assert seconds(1) > 1.5 * seconds(4)


def test_verified_path_of_a_file_and_of_a_folder(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)), tokenizer())

    def path_of(name: str) -> Path:
        return verified_path(image_artifacts(loaded_from(root), [name]), store_of(root))

    with pytest.raises(UserError, match="has not been fetched"):
        path_of("big")
    prefetched(root)
    assert path_of("big").read_bytes() == CHECKPOINT
    folder = path_of("tok")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == TOKENIZER


def test_two_processes_share_one_download(tmp_path: Path, server: HubServer) -> None:
    root = checkout(tmp_path, server, checkpoint(sha256=sha(CHECKPOINT)))
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.support.checkout import prefetched\n"
        "print(prefetched(Path(sys.argv[1]), policy=None)[0].state)\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    states = [process.communicate(timeout=60)[0].strip() for process in both]
    assert sorted(states)[-1] in ("fetched", "waited")
    assert "fetched" in states
    assert sum(m == "GET" and "/cdn/" in path for m, path, _ in server.requests) == 1


def test_hf_endpoint_replaces_the_hub_unless_the_task_names_one(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"huggingface": "http://127.0.0.1:9"}
    root = make_checkout(tmp_path / "c", checkpoint(), mirrors=nowhere)
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    assert loaded_from(root).origins["mirrors.huggingface"] == "HF_ENDPOINT"
    assert prefetched(root)[0].state == "fetched"
    loaded = loaded_from(root, "mirrors.huggingface=https://hub.example")
    assert loaded.config.mirrors.huggingface == "https://hub.example"


def test_ca_bundle_is_trusted_by_hub_client_and_download(tmp_path: Path, server: HubServer) -> None:
    cert = serve_tls(server, tmp_path)
    server.cdn = url = server.url.replace("http:", "https:")
    hub_of = {"huggingface": url}
    root = make_checkout(tmp_path / "c", checkpoint(), mirrors=hub_of)
    error = user_error(prefetched, root)
    assert error.code == "certificate"
    hub_of["ca_bundle"] = str(cert)
    root = make_checkout(tmp_path / "c", checkpoint(), mirrors=hub_of)
    assert prefetched(root, policy=None)[0].state == "fetched"


def test_checkouts_share_a_store(tmp_path: Path) -> None:
    with misbehaving(CHECKPOINT) as server:
        model = from_url(f"{server.url}/m.safetensors", sha256=sha(CHECKPOINT))
        store = {"path": str(tmp_path / "shared")}
        first = prefetched(make_checkout(tmp_path / "1", model, store=store))[0]
        second = prefetched(make_checkout(tmp_path / "2", {**model, "name": "mine"}, store=store))[
            0
        ]
        assert (first.state, second.state, len(server.asked)) == ("fetched", "cached", 1)
    names = [tmp_path / "shared" / "names" / name / "m.safetensors" for name in ("u", "mine")]
    assert all(name.samefile(first.path) for name in names)
