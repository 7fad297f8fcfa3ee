"""`MODEL_PATH=hub:…`: the cached file that is found, its check against the lock, the download."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.volume_models import as_json
from scripts.container import paths
from scripts.container.settings import Settings
from scripts.container.webui.hub_checkpoint import prepare_hub_checkpoint
from scripts.container.webui.model_links import prepare_models
from tests.support.hub import commit_of, hub
from tests.support.inputs import make_checkpoint

REPO, FILE = "ann/photo", "sd15/photo.safetensors"
NAME = f"hub:{REPO}/{FILE}"
COMMIT, OTHER = "c" * 40, "d" * 40


class Place:
    """Caches, a volume and a worker's folder below a temporary folder."""

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.volume, self.worker = tmp, tmp / "volume", tmp / "worker"
        self.client = self.volume / "huggingface-cache/hub"
        self.store = tmp / "store"
        self.locked = tmp / "cached-models.json"
        self.worker.mkdir()
        self.progress: list[str] = []

    def settings(self, name: str = NAME, **environment: str) -> Settings:
        return Settings.from_environment(
            {
                "MODEL_PATH": name,
                "HUB_CACHES": f"{self.client},{self.store}",
                "CACHED_MODELS": str(self.locked),
                "VOLUME_DIR": str(self.volume),
                "POD_VOLUME_DIR": str(self.tmp / "pod"),
                "WEBUI_DIR": str(self.tmp / "webui"),
                "IMAGE_MODELS": str(self.tmp / "image"),
                "WORKER_DIR": str(self.worker),
                "HF_ENDPOINT": "http://127.0.0.1:9",
                **environment,
            }
        )

    def start(self, name: str = NAME, **environment: str) -> Path:
        """Do what a worker does before it starts the WebUI; return what it loads."""
        settings = self.settings(name, **environment)
        prepare_hub_checkpoint(settings, self.progress.append)
        return prepare_models(settings).checkpoint

    def lock(self, content: Path) -> None:
        """List a file as a build does: by its place in images with a checkpoint."""
        sha256 = hashlib.sha256(content.read_bytes()).hexdigest()
        url = f"https://huggingface.co/{REPO}/resolve/{COMMIT}/{FILE}"
        spec = ArtifactSpec(url, "model.safetensors", sha256, content.stat().st_size)
        self.locked.write_text(as_json({f"{NAME}@{COMMIT}": spec}))

    def in_client(self, commit: str = COMMIT, seed: int = 0, ref: str = "main") -> Path:
        """Cache the file as the Hub's client does: a link to a blob named by its checksum."""
        model = make_checkpoint(self.tmp / "made.safetensors", seed=seed, edge=8)
        folder = self.client / "models--ann--photo"
        blob = folder / "blobs" / hashlib.sha256(model.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        model.replace(blob)
        link = folder / "snapshots" / commit / FILE
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        if ref:
            (folder / "refs").mkdir(exist_ok=True)
            (folder / "refs" / ref).write_text(commit)
        return link

    def in_store(self, revision: str, seed: int = 0) -> Path:
        return make_checkpoint(self.store / REPO / revision / FILE, seed=seed, edge=8)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_references_are_parsed_and_others_refused() -> None:
    assert HubReference.parse(f"{NAME}@v1") == HubReference(REPO, FILE, "v1")
    assert str(HubReference.parse(NAME)) == NAME
    for wrong in ("hub:ann/photo", "hub:ann/photo/", f"{NAME}@", "hub:a/b/../c", "hub:/a/b"):
        with pytest.raises(UserError, match="MODEL_PATH") as caught:
            Settings.from_environment({"MODEL_PATH": wrong})
        assert caught.value.code == "setting-invalid"


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_file_in_the_cache_of_the_hubs_client_is_loaded(place: Place, revision: str) -> None:
    link = place.in_client()
    assert place.start(NAME + revision) == link


def test_without_a_named_revision_any_snapshot_counts(place: Place) -> None:
    link = place.in_client(ref="")
    assert place.start() == link
    with pytest.raises(UserError):
        place.start(f"{NAME}@{OTHER}")


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_file_in_runpods_store_is_loaded(
    place: Place, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_REVISION", COMMIT)
    file = place.in_store(COMMIT)
    assert place.start(NAME + revision) == file


def test_a_cached_file_of_another_revision_counts_if_the_lock_proves_it(place: Place) -> None:
    place.lock(place.in_client(commit=OTHER))
    assert OTHER in str(place.start(f"{NAME}@{COMMIT}"))


def test_a_cached_file_that_is_not_the_locked_one_is_downloaded(place: Place) -> None:
    cached = place.in_client(seed=1)
    made = make_checkpoint(place.tmp / "hub" / REPO / FILE, seed=2, edge=8)
    place.volume.joinpath("models").mkdir()  # a volume: not only the cache lies there
    with hub(place.tmp / "hub") as server:
        place.lock(made)
        found = place.start(HF_ENDPOINT=server.url)
    assert found.is_relative_to(place.volume / ".cache/a1111/hub")
    assert found.name == "photo.safetensors", "as where it is cached"
    assert found.read_bytes() == made.read_bytes() != cached.read_bytes()
    assert place.start() == found, "a second start needs no network"


def test_a_damaged_file_in_the_clients_cache_is_not_loaded(place: Place) -> None:
    link = place.in_client()
    content = bytearray(link.read_bytes())
    content[-1] ^= 1
    link.resolve().write_bytes(content)
    with pytest.raises(UserError, match="does not answer"):
        place.start()


def test_an_unlocked_file_is_downloaded_as_the_hub_describes_it(place: Place) -> None:
    made = make_checkpoint(place.tmp / "hub" / REPO / FILE, edge=8)
    with hub(place.tmp / "hub") as server:
        found = place.start(HF_ENDPOINT=server.url)
        assert commit_of(place.tmp / "hub" / REPO) in server.requests[-1][1]
    assert found.read_bytes() == made.read_bytes()
    assert found.is_relative_to(place.worker), "there is no volume"
    with pytest.raises(UserError, match="no file"), hub(place.tmp / "hub") as server:
        place.start(f"hub:{REPO}/other.safetensors", HF_ENDPOINT=server.url)


def test_a_container_verifies_the_file_once_and_leaves_it_as_it_is(place: Place) -> None:
    link = place.in_client()
    place.lock(link)
    before = link.stat()
    assert place.start() == link
    assert len(place.progress) == 1
    assert place.start() == link
    assert len(place.progress) == 1
    assert (link.stat().st_mtime_ns, link.stat().st_mode) == (before.st_mtime_ns, before.st_mode)
    assert not list(link.parent.glob("*.stamp"))
    record = json.loads((place.worker / "hub-checkpoint.json").read_text())
    assert record["path"] == str(link)


def test_the_model_cache_alone_is_no_volume(place: Place) -> None:
    place.in_client()
    assert not paths.is_volume(place.volume)
    assert paths.choose_hub_folder(place.settings()).is_relative_to(place.worker)
    (place.volume / "x").touch()
    assert paths.is_volume(place.volume)
    assert not paths.is_volume(place.tmp / "none")
