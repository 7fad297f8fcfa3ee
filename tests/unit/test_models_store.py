"""What is done with a filled store: staged for the build, verified, pruned, edited, shown."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time
from scripts.common.fetch.volume_models import fetch_all, read_list
from scripts.host.config.load import ROOT, load
from scripts.host.models import edit, upkeep
from scripts.host.models.context import staged_context
from scripts.host.models.prefetch import Manner, prefetch
from scripts.host.models.store import Store
from tests.support.checkout import (
    MANNER,
    forget,
    loaded_from,
    local,
    make_checkout,
    plain_environment,
    safetensors_bytes,
    sha,
)
from tests.support.fault_server import misbehaving
from tests.support.hub import hub

ONE, TWO = safetensors_bytes(seed=1), safetensors_bytes(seed=2)
COMMIT = "32bd64288804d66eefd0ccbe215aa642df71cc41"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    main = local(tmp_path, "one", ONE, path="/model.safetensors")
    root = make_checkout(
        tmp_path / "checkout", main, local(tmp_path, "two", TWO, path="/a/b.safetensors")
    )
    prefetch(loaded_from(root), manner=MANNER)
    return root


def time_of(content: bytes) -> int:
    """Nanoseconds since the epoch."""
    return layer_time(sha(content)) * 10**9


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_the_context_has_the_images_shape_and_costs_no_space(root: Path) -> None:
    loaded = loaded_from(root)
    results = prefetch(loaded, manner=MANNER)
    with staged_context(loaded, results) as folder:
        assert listing(folder) == {
            "model.safetensors": (0o644, time_of(ONE)),
            "extra": (0o755, 0),
            "extra/a": (0o755, 0),
            "extra/a/b.safetensors": (0o644, time_of(TWO)),
        }
        assert (folder / "model.safetensors").samefile(results[0].path)
        assert (folder / "extra" / "a" / "b.safetensors").samefile(results[1].path)
    assert not folder.exists()


def test_the_hubs_own_client_finds_the_staged_tokenizer_without_a_network(tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    file = tmp_path / "hub" / "o" / "tok" / "vocab.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    source = {"hub": "o/tok", "files": ["vocab.json"], "revision": COMMIT}
    model = {"name": "tok", "source": source, "path": "/hf/hub", "layout": "hub-cache"}
    with hub(tmp_path / "hub") as server:
        root = make_checkout(tmp_path / "c", model, mirrors={"huggingface": server.url})
        results = prefetch(loaded_from(root), manner=MANNER)
    with staged_context(loaded_from(root), results) as folder:
        cache = folder / "extra" / "hf" / "hub"
        found = hf_hub_download("o/tok", "vocab.json", cache_dir=cache, local_files_only=True)
        assert Path(found).read_text() == "{}"


def test_volume_models_are_listed_for_the_worker_which_fetches_them_verified(
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
        loaded = loaded_from(root)
        results = prefetch(loaded, manner=MANNER)
        assert [result.item.model.name for result in results] == ["one"]
        with staged_context(loaded, results) as folder:
            models = read_list(folder / "extra" / "opt" / "worker" / "volume-models.json")
        assert [found.state for found in fetch_all(models)] == ["fetched"]
        assert there.read_bytes() == TWO
        assert [found.state for found in fetch_all(models)] == ["cached"]
        assert len(server.asked) == 1


def test_an_unpinned_volume_model_is_refused(tmp_path: Path) -> None:
    model = {
        "name": "v",
        "source": {"hub": "o/r", "file": "m.safetensors"},
        "path": "/v/m.safetensors",
    }
    root = make_checkout(tmp_path / "c", {**model, "placement": "volume"})
    with pytest.raises(UserError, match="not pinned"), staged_context(loaded_from(root), ()):
        pass


def test_verify_names_the_damaged_object_and_no_other(root: Path) -> None:
    store = Store(loaded_from(root).store)
    damaged = store.object_path(sha(TWO))
    time = damaged.stat().st_mtime_ns
    with damaged.open("r+b") as stream:
        stream.write(b"x")
    os.utime(damaged, ns=(time, time))
    assert {each.path: bool(each.damage) for each in upkeep.verify(store)} == {
        store.object_path(sha(ONE)): False,
        damaged: True,
    }


def test_prune_frees_what_no_config_names_and_keeps_the_rest(root: Path) -> None:
    loaded = loaded_from(root)
    store = Store(loaded.store)
    assert upkeep.waste(loaded) == []
    forget(root, "two")
    (store.root / "incoming").mkdir(exist_ok=True)
    (store.root / "incoming" / "abc.partial").write_bytes(b"half")
    rubbish = upkeep.waste(loaded_from(root))
    assert {each.why for each in rubbish} == {
        "no config names it",
        "a name of what no config names",
        "an unfinished download",
    }
    upkeep.delete(rubbish, store)
    assert [path.name for path in store.objects()] == [sha(ONE)]
    assert [path.name for path in store.names()] == ["one.safetensors"]
    assert upkeep.waste(loaded_from(root)) == []


def test_prune_asks_every_checkout_that_shares_the_store(root: Path, tmp_path: Path) -> None:
    other = make_checkout(tmp_path / "other", local(tmp_path, "two", TWO))
    shared = f"store.path={loaded_from(root).store}"
    shutil.copy(other / "config.local.yaml", tmp_path / "keep")
    text = (other / "config.local.yaml").read_text()
    (other / "config.local.yaml").write_text(
        text.replace(str(other / "models"), str(loaded_from(root).store))
    )
    prefetch(loaded_from(other, shared), manner=MANNER)
    forget(root, "two")
    assert [
        each for each in upkeep.waste(loaded_from(root)) if "no config names it" in each.why
    ] == []


def test_prune_keeps_what_a_checkout_wants_whatever_image_config_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("models: []\n")
    monkeypatch.setenv("IMAGE_CONFIG", str(nothing))
    assert loaded_from(root).config.models == ()
    assert upkeep.waste(loaded_from(root)) == []


def test_prune_leaves_what_is_being_used(root: Path) -> None:
    loaded = loaded_from(root)
    with staged_context(loaded, prefetch(loaded, manner=MANNER)):
        assert upkeep.waste(loaded) == []


def test_add_and_remove_change_their_own_lines_only(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    entry = edit.entry("extra", "hub:o/r/sub/m.safetensors", "/extra.safetensors", sha256="a" * 64)
    edit.add(tmp_path, entry)
    after = (tmp_path / "config.yaml").read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert any("name: extra" in line for line in added)
    assert load(root=tmp_path).config.models[-1].name == "extra"
    edit.remove(tmp_path, "extra")
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_model_that_makes_the_config_invalid_is_not_added(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(UserError):
        edit.add(tmp_path, edit.entry("x", "hub:o/r/m.safetensors", "not-absolute"))
    assert (tmp_path / "config.yaml").read_text() == before


def test_every_model_can_be_removed_and_one_added_again(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    for model in load(root=tmp_path).config.models:
        edit.remove(tmp_path, model.name)
    assert load(root=tmp_path).config.models == ()
    edit.add(tmp_path, edit.entry("x", "https://h.example/m.safetensors", "/model.safetensors"))
    assert [model.name for model in load(root=tmp_path).config.models] == ["x"]


def test_removing_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    with pytest.raises(UserError) as caught:
        edit.remove(tmp_path, "nothing")
    assert "clip-tokenizer" in caught.value.hint


def test_trust_is_not_needed_for_what_is_pinned(root: Path) -> None:
    assert {r.state for r in prefetch(loaded_from(root), manner=Manner())} == {"cached"}
