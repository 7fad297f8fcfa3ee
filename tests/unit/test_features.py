"""Features of the config: their files become models like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.models.weights import FEATURES, auxiliary_weights
from scripts.host.build.image_labels import LICENCES_LABEL
from scripts.host.build.inputs import resolve
from scripts.host.config.addresses import SITES, find_site
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock, update_lock
from scripts.host.models.artifacts import artifacts_of
from scripts.host.models.hub_client import Hub
from scripts.host.models.models_context import staged_context
from scripts.host.models.store import Store
from scripts.host.pin.pin_network import find_model_files, plan_lookups
from tests.support.checkout import (
    from_url,
    loaded_from,
    make_checkout,
    prefetch_models,
    sha,
)
from tests.support.errors import user_error
from tests.support.pickles import NEWER_MEMBERS, tensor, torch_zip
from tests.support.serving import Server, running

CHECKPOINT = from_url("https://models.example/a.safetensors", sha256="a" * 64)
TAESD = "madebyollin/taesd/raw/58a76e0018208dc3d3c56dd441cc42117c554c06"


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror of GitHub's files: its address and its folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = Server(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
    with running(server):
        yield server.url, folder


def configured(
    root: Path, features: list[Any], *models: dict[str, Any], **more: Any
) -> LoadedConfig:
    """Load a config with these features and the checkpoint."""
    return loaded_from(make_checkout(root, CHECKPOINT, *models, features=features, **more))


def targets(loaded: LoadedConfig) -> dict[str, str]:
    """Return the place of each model that a feature adds, by its name."""
    added = loaded.config.all_models[len(loaded.config.models) :]
    return {model.name: model.target for model in added}


def test_no_feature_adds_nothing(tmp_path: Path) -> None:
    assert targets(configured(tmp_path, [])) == {}


def test_features_become_artifacts_of_the_build(tmp_path: Path) -> None:
    inputs = resolve(configured(tmp_path, ["faces", "previews"]))
    paths = {each.label: str(each.image_path) for each in inputs.artifacts}
    assert paths.pop("u") == "/model.safetensors"
    assert paths == {
        "gfpgan": "/opt/a1111/models/GFPGAN/GFPGANv1.4.pth",
        "codeformer": "/opt/a1111/models/Codeformer/codeformer-v0.1.0.pth",
        "facexlib-detection": "/opt/a1111/models/GFPGAN/detection_Resnet50_Final.pth",
        "facexlib-parsing": "/opt/a1111/models/GFPGAN/parsing_parsenet.pth",
        "vaeapprox-sdxl": "/opt/a1111/models/VAE-approx/vaeapprox-sdxl.pt",
    }
    licences = json.loads(inputs.labels[LICENCES_LABEL])
    assert licences["gfpgan"] == "Apache-2.0"
    assert not [name for name in inputs.unpinned if name.startswith("model")]


def test_each_feature_loads_with_the_release_that_has_it(tmp_path: Path) -> None:
    for placement in ("image", "volume"):
        chosen = [{"name": name, "placement": placement} for name in FEATURES]
        loaded = configured(tmp_path, chosen, a1111={"release": "v1.10.1"})
        assert len(targets(loaded)) > 50


def test_on_the_volume_goes_what_the_worker_links(tmp_path: Path) -> None:
    loaded = configured(tmp_path, ["previews", {"name": "interrogate", "placement": "volume"}])
    models = {model.name: model for model in loaded.config.all_models}
    assert models["blip-caption"].target.startswith("/runpod-volume/models/interrogate/BLIP/")
    assert models["clip-vit-l-14"].target == "/runpod-volume/models/other/CLIP/ViT-L-14.pt"
    # A1111 looks for these outside of its data folder, where nothing is linked.
    for name in ("bert-vocab", "interrogate-artists", "vaeapprox-sdxl"):
        assert models[name].placement == "image"


def test_a_file_of_two_features_is_added_once(tmp_path: Path) -> None:
    loaded = configured(tmp_path, ["gfpgan", "faces"])
    assert len(targets(loaded)) == 4


def test_a_configured_model_replaces_one_of_a_feature(tmp_path: Path) -> None:
    mine = from_url("https://models.example/mine.pth", name="esrgan-4x", kind="upscaler")
    mine |= {"path": "ESRGAN_4x.pth", "placement": "volume"}
    place = from_url("https://models.example/x", name="other-name", kind="upscaler")
    place |= {"family": "SwinIR", "path": "SwinIR 4x.pth"}
    added = targets(configured(tmp_path, ["upscale"], mine, place))
    assert not {"esrgan-4x", "swinir-4x"} & set(added)
    assert "scunet-gan" in added


def test_a_model_with_the_name_of_another_file_is_refused(tmp_path: Path) -> None:
    """It would leave GFPGAN out without a word."""
    lora = from_url("https://models.example/x.safetensors", name="gfpgan", kind="lora")
    del lora["path"]
    error = user_error(configured, tmp_path, ["faces"], lora)
    assert "gfpgan is the name of a file of feature faces" in str(error)
    assert "/opt/a1111/models/GFPGAN/GFPGANv1.4.pth" in str(error)


def test_a_configured_restorer_replaces_the_feature_s(tmp_path: Path) -> None:
    """A1111 loads one GFPGAN and one CodeFormer; two would leave it to the order of names."""
    older = from_url("https://models.example/GFPGANv1.3.pth", name="older", kind="face-restoration")
    del older["path"]
    added = targets(configured(tmp_path, ["faces"], older))
    assert set(added) == {"codeformer", "facexlib-detection", "facexlib-parsing"}


def test_a_feature_shares_a_repository_in_the_hub_cache(tmp_path: Path) -> None:
    tokenizer: dict[str, Any] = {
        "name": "clip-tokenizer",
        "source": {
            "hub": "openai/clip-vit-large-patch14",
            "files": ["vocab.json", "merges.txt"],
            "revision": "32bd64288804d66eefd0ccbe215aa642df71cc41",
        },
        "path": "/opt/huggingface/hub",
        "layout": "hub-cache",
    }
    loaded = configured(tmp_path, ["tokenizer", "text-encoders-sd1"], tokenizer)
    added = {"clip-special-tokens-map", "clip-tokenizer-config", "clip-config", "clip-weights"}
    assert set(targets(loaded)) == added
    tokenizer["source"]["revision"] = "0" * 40
    error = user_error(configured, tmp_path, ["text-encoders-sd1"], tokenizer)
    assert "clip-tokenizer and clip-weights take openai/clip-vit-large-patch14 at two" in str(error)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["upscal"], "features.0.name: expected 'upscale', 'upscale-realesrgan'"),
        (["sd3"], "A1111 v1.9.3 has no sd3; one of upscale, "),
        ("upscale", "features: expected a list"),
        ([{"name": "faces", "placement": "disk"}], "features.0.placement: "),
    ],
)
def test_wrong_features_are_refused(tmp_path: Path, features: Any, message: str) -> None:
    error = user_error(configured, tmp_path, features)
    assert message in str(error)


def test_mirrors_serve_the_files_of_features(tmp_path: Path) -> None:
    mirrors = {"github": "https://git.example/gh", "huggingface": "https://hub.example"}
    loaded = configured(tmp_path, ["upscale", "tokenizer"], mirrors=mirrors)
    urls = {each.label: each.spec.url for each in resolve(loaded).artifacts}
    assert urls["esrgan-4x"] == "https://git.example/gh/cszn/KAIR/releases/download/v1.0/ESRGAN.pth"
    assert urls["clip-vocab"].startswith("https://hub.example/openai/clip-vit-large-patch14/")
    assert urls["u"] == "https://models.example/a.safetensors"


def pinned_taesd(root: Path, mirror: tuple[str, Path], content: bytes) -> LoadedConfig:
    """Serve that content as each file of `taesd`, and pin them."""
    url, folder = mirror
    (folder / TAESD).mkdir(parents=True)
    for name in ("taesd_decoder", "taesd_encoder", "taesdxl_decoder", "taesdxl_encoder"):
        (folder / TAESD / f"{name}.pth").write_bytes(content)
    make_checkout(root, features=["taesd"], mirrors={"github": url})
    loaded = loaded_from(root)
    hub, store, mirrors = Hub.from_config(loaded), Store(loaded.store), loaded.config.mirrors
    pins = {
        model.name: find_model_files(model, mirrors, hub, store)
        for model in loaded.config.all_models
    }
    update_lock(root, lambda _: Lock(models=pins))
    return loaded


@pytest.mark.parametrize("site", SITES)
def test_each_site_has_a_mirror(tmp_path: Path, site: str) -> None:
    root = make_checkout(tmp_path, CHECKPOINT, features=["interrogate", "upscale-ldsr", "faces"])
    loaded = loaded_from(root, f"mirrors.{site}=https://mirror.example/there/")
    usual = loaded_from(root)
    moved = {
        before.spec.url: after.spec.url
        for before, after in zip(
            artifacts_of(usual, usual.config.all_models),
            artifacts_of(loaded, loaded.config.all_models),
            strict=True,
        )
        if before.spec.url != after.spec.url
    }
    assert moved
    assert moved == {
        url: url.replace(SITES[site], "https://mirror.example/there")
        for url in (each.spec.url for each in artifacts_of(usual, usual.config.all_models))
        if url.startswith(SITES[site])
    }


def test_no_file_of_a_feature_comes_from_a_site_without_a_mirror() -> None:
    assert {find_site(weight.url) for weight in auxiliary_weights() if weight.url} == {*SITES}


def test_a_feature_is_fetched_from_the_mirror_of_its_site(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    url, folder = mirror
    file = folder / "f/31a76b13ea27482981b4/index.html"  # as a site answers that has no file names
    file.parent.mkdir(parents=True)
    file.write_text("model: {}\n")
    loaded = configured(tmp_path / "c", ["upscale-ldsr"], mirrors={"heibox": url})
    model = next(each for each in loaded.config.all_models if each.name == "ldsr-project")
    hub, store, mirrors = Hub.from_config(loaded), Store(loaded.store), loaded.config.mirrors
    with pytest.raises(UserError, match="ldsr-project: feature upscale-ldsr says sha256"):
        find_model_files(model, mirrors, hub, store)


def test_a_file_without_checksum_is_refused_unpinned(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "c", features=["taesd"])
    refused = user_error(prefetch_models, root, "taesd-decoder")
    assert refused.code == "unpinned-url"


def test_a_pinned_file_is_staged_where_a1111_looks(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    content = torch_zip({"a": tensor(3)})
    loaded = pinned_taesd(tmp_path / "c", mirror, content)
    files = prefetch_models(loaded.root)
    assert {file.sha256 for file in files.values()} == {sha(content)}
    # The lock names GitHub's own address, so it is valid with another mirror, or with none.
    elsewhere = loaded_from(loaded.root, "mirrors.github=https://git.example")
    assert all(elsewhere.pin_of(model) for model in elsewhere.config.all_models)
    with staged_context(Store(loaded.store), files) as context:
        staged = context / "extra/opt/a1111/models/VAE-taesd/taesd_decoder.pth"
        assert staged.read_bytes() == content


def test_a_file_that_the_release_cannot_read_is_refused(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    """safe.py of v1.9.3 answers such a file with None, and each job that needs it with a 500."""
    members = ("version", "data/0", *NEWER_MEMBERS)
    loaded = pinned_taesd(tmp_path / "c", mirror, torch_zip({"a": tensor(3)}, members=members))
    error = user_error(prefetch_models, loaded.root)
    assert "A1111 v1.9.3 refuses a file with" in str(error)
    newer = ("a1111.release=v1.10.1", "features=[{name: taesd}]")
    names = [model.name for model in loaded.config.all_models]
    assert prefetch_models(loaded.root, *names, define=newer)


def test_pin_says_no_where_a_known_checksum_is_not_served(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    url, folder = mirror
    release = folder / "AUTOMATIC1111/stable-diffusion-webui/releases/download/v1.0.0-pre"
    release.mkdir(parents=True)
    (release / "vaeapprox-sdxl.pt").write_bytes(torch_zip({"a": tensor(3)}))
    loaded = configured(tmp_path / "c", ["previews"], mirrors={"github": url})
    [model] = loaded.config.all_models[1:]
    hub, store = Hub.from_config(loaded), Store(loaded.store)
    error = user_error(find_model_files, model, loaded.config.mirrors, hub, store)
    assert "vaeapprox-sdxl: feature previews says sha256 6c8db511" in str(error)


def test_pin_confirms_known_checksums_of_named_variants_only(tmp_path: Path) -> None:
    loaded = configured(tmp_path / "c", ["previews", "taesd"], a1111={"release": "v1.10.1"})
    usual = {key for key in plan_lookups([loaded], tmp_path) if key[0] in ("model", "weight")}
    confirming = plan_lookups([loaded], tmp_path, confirm=True)
    assert ("model", "taesd-decoder") in usual
    confirmed = {key for key in confirming if key[0] in ("model", "weight")} - usual
    assert confirmed == {("weight", "vaeapprox-sdxl"), ("weight", "vaeapprox-sd3")}


def test_hub_files_of_a_feature_are_found_by_the_cache(tmp_path: Path) -> None:
    """The tokenizer's files that a feature adds lie in one snapshot, with one reference to it."""
    loaded = configured(tmp_path, ["tokenizer"])
    artifacts = artifacts_of(loaded, loaded.config.all_models[1:])
    paths = {str(each.image_path.parent) for each in artifacts}
    revision = "32bd64288804d66eefd0ccbe215aa642df71cc41"
    folder = "/opt/huggingface/hub/models--openai--clip-vit-large-patch14/snapshots"
    assert paths == {f"{folder}/{revision}"}
