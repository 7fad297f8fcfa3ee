"""Use a filled store: stage it for the build, verify it, prune it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time
from scripts.common.fetch.volume_models import fetch_all, read_list
from scripts.host.models.artifacts import Artifact, artifacts_of
from scripts.host.models.models_context import staged_context
from scripts.host.models.store_maintenance import (
    Unused,
    delete,
    find_unused,
    verify_objects,
)
from tests.support.checkout import (
    forget,
    loaded_from,
    local,
    make_checkout,
    prefetch_models,
    prefetched,
    safetensors_bytes,
    sha,
    store_of,
)
from tests.support.fault_server import misbehaving
from tests.support.hub import hub

ONE, TWO = safetensors_bytes(seed=1), safetensors_bytes(seed=2)
COMMIT = "32bd64288804d66eefd0ccbe215aa642df71cc41"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    main = local(tmp_path, "one", ONE, path="/model.safetensors")
    root = make_checkout(
        tmp_path / "checkout", main, local(tmp_path, "two", TWO, path="/a/b.safetensors")
    )
    prefetched(root)
    return root


def volume_of(root: Path) -> tuple[Artifact, ...]:
    """Return the artifacts of its models on the volume."""
    loaded = loaded_from(root)
    models = [model for model in loaded.config.models if model.placement == "volume"]
    return artifacts_of(loaded, models)


def unused(root: Path) -> list[Unused]:
    """Return what its store may delete."""
    return find_unused(loaded_from(root), store_of(root))


def time_of(content: bytes) -> int:
    """Nanoseconds since the epoch."""
    return layer_time(sha(content)) * 10**9


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_context_is_shaped_like_the_image_and_takes_no_space(root: Path) -> None:
    files = prefetch_models(root)
    with staged_context(store_of(root), files) as folder:
        assert listing(folder) == {
            "model.safetensors": (0o644, time_of(ONE)),
            "extra": (0o755, 0),
            "extra/a": (0o755, 0),
            "extra/a/b.safetensors": (0o644, time_of(TWO)),
        }
        one, two = files.values()
        assert (folder / "model.safetensors").samefile(one.path)
        assert (folder / "extra" / "a" / "b.safetensors").samefile(two.path)
    assert not folder.exists()


def test_hub_client_finds_the_staged_tokenizer_offline(tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    file = tmp_path / "hub" / "o" / "tok" / "vocab.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    source = {"hub": "o/tok", "files": ["vocab.json"], "revision": COMMIT}
    model = {"name": "tok", "source": source, "path": "/hf/hub", "layout": "hub-cache"}
    with hub(tmp_path / "hub") as server:
        root = make_checkout(tmp_path / "c", model, mirrors={"huggingface": server.url})
        files = prefetch_models(root)
    with staged_context(store_of(root), files) as folder:
        cache = folder / "extra" / "hf" / "hub"
        found = hf_hub_download("o/tok", "vocab.json", cache_dir=cache, local_files_only=True)
        assert Path(found).read_text() == "{}"


def test_volume_models_are_listed_and_fetched_by_the_worker(
    tmp_path: Path,
) -> None:
    there = tmp_path / "volume" / "big.safetensors"
    with misbehaving(TWO) as server:
        source = {"url": f"{server.url}/big.safetensors"}
        volume = {"name": "big", "source": source, "path": str(there), "sha256": sha(TWO)}
        root = make_checkout(
            tmp_path / "c",
            local(tmp_path, "one", ONE, path="/model.safetensors"),
            {**volume, "placement": "volume"},
        )
        files = prefetch_models(root)
        assert [artifact.model.name for artifact in files] == ["one"]
        with staged_context(store_of(root), files, volume_of(root)) as folder:
            models = read_list(folder / "extra" / "opt" / "worker" / "volume-models.json")
        assert [found.state for found in fetch_all(models)] == ["fetched"]
        assert there.read_bytes() == TWO
        assert [found.state for found in fetch_all(models)] == ["cached"]
        assert len(server.asked) == 1


def test_unpinned_volume_model_is_refused(tmp_path: Path) -> None:
    model = {
        "name": "v",
        "source": {"hub": "o/r", "file": "m.safetensors"},
        "path": "/v/m.safetensors",
    }
    root = make_checkout(tmp_path / "c", {**model, "placement": "volume"})
    context = staged_context(store_of(root), {}, volume_of(root))
    with pytest.raises(UserError, match="not pinned"), context:
        pass


def test_verify_finds_the_damaged_object(root: Path) -> None:
    store = store_of(root)
    damaged = store.object_path(sha(TWO))
    time = damaged.stat().st_mtime_ns
    with damaged.open("r+b") as stream:
        stream.write(b"x")
    os.utime(damaged, ns=(time, time))
    assert {each.path: bool(each.damage) for each in verify_objects(store)} == {
        store.object_path(sha(ONE)): False,
        damaged: True,
    }


def test_prune_deletes_only_what_no_config_names(root: Path) -> None:
    store = store_of(root)
    assert unused(root) == []
    forget(root, "two")
    (store.root / "incoming").mkdir(exist_ok=True)
    (store.root / "incoming" / "abc.partial").write_bytes(b"half")
    found = unused(root)
    assert {each.reason for each in found} == {
        "no config names it",
        "a name of what no config names",
        "an unfinished download",
    }
    delete([each.path for each in found])
    assert [path.name for path in store.objects()] == [sha(ONE)]
    assert [path.name for path in store.names()] == ["one.safetensors"]
    assert unused(root) == []


def test_prune_reads_every_checkout_of_the_store(root: Path, tmp_path: Path) -> None:
    other = make_checkout(tmp_path / "other", local(tmp_path, "two", TWO))
    shared = f"store.path={loaded_from(root).store}"
    shutil.copy(other / "config.local.yaml", tmp_path / "keep")
    text = (other / "config.local.yaml").read_text()
    (other / "config.local.yaml").write_text(
        text.replace(str(other / "models"), str(loaded_from(root).store))
    )
    prefetched(other, define=(shared,))
    forget(root, "two")
    assert [each for each in unused(root) if "no config names it" in each.reason] == []


def test_prune_ignores_image_config_of_other_checkouts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("models: []\n")
    monkeypatch.setenv("IMAGE_CONFIG", str(nothing))
    assert loaded_from(root).config.models == ()
    assert unused(root) == []


def test_prune_keeps_a_context_in_use(root: Path) -> None:
    with staged_context(store_of(root), prefetch_models(root)):
        assert unused(root) == []


def test_pinned_files_need_no_trust(root: Path) -> None:
    assert {file.state for file in prefetched(root)} == {"cached"}
