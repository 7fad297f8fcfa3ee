"""Models by kind in the config: where each goes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.volume_models import read_list
from scripts.common.models.kinds import KINDS, Kind, data_path
from scripts.container.settings import Settings
from scripts.container.webui.model_tree import build_model_tree
from scripts.host.build.image_labels import LICENCES_LABEL
from scripts.host.build.inputs import BuildOptions, resolve
from scripts.host.build.pipeline import build_image
from scripts.host.config.load import ROOT
from scripts.host.config.model_place import Placement
from scripts.host.config.model_schema import Model
from scripts.host.inspect.structure import model_paths
from scripts.host.models.artifacts import artifacts_of
from scripts.host.models.models_context import staged_context
from scripts.host.models.models_display import models_table
from tests.support.checkout import (
    loaded_from,
    local,
    make_checkout,
    prefetch_models,
    safetensors_bytes,
    sha,
    store_of,
)

ONE, TWO = safetensors_bytes(1000, seed=1), safetensors_bytes(1000, seed=2)


def model(kind: str, file: str, name: str = "m", **more: Any) -> dict[str, Any]:
    """Return a config entry with a kind, from a Hub repository."""
    return {"name": name, "source": {"hub": "o/r", "file": file}, "kind": kind, **more}


def target(kind: str, file: str, **more: Any) -> str:
    return Model.model_validate(model(kind, file, **more)).target


@pytest.mark.parametrize(
    ("kind", "file", "more", "image", "volume"),
    [
        ("checkpoint", "x.safetensors", {}, "models/Stable-diffusion/x.safetensors", "checkpoint"),
        ("lora", "sub/x.safetensors", {}, "models/Lora/x.safetensors", "lora"),
        ("embedding", "x.pt", {}, "embeddings/x.pt", "embedding"),
        ("upscaler", "4x-x.pth", {}, "models/ESRGAN/4x-x.pth", "upscaler/ESRGAN"),
        ("upscaler", "x.pth", {"family": "SwinIR"}, "models/SwinIR/x.pth", "upscaler/SwinIR"),
        ("face-restoration", "GFPGANv1.4.pth", {}, "models/GFPGAN/GFPGANv1.4.pth", None),
        ("checkpoint", "x.yaml", {}, "models/Stable-diffusion/x.yaml", "checkpoint"),
    ],
)
def test_the_kind_decides_the_place(
    kind: str, file: str, more: dict[str, str], image: str, volume: str | None
) -> None:
    assert target(kind, file, **more) == f"/opt/a1111/{image}"
    folder = volume or "face-restoration/GFPGAN"
    expected = f"/runpod-volume/models/{folder}/{Path(file).name}"
    assert target(kind, file, **more, placement="volume") == expected


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("upscaler", "SwinIR 4x.pth", "/opt/a1111/models/ESRGAN/SwinIR 4x.pth"),
        ("lora", "people/ann.safetensors", "/opt/a1111/models/Lora/people/ann.safetensors"),
        ("other", "VAE-approx/x.pt", "/opt/a1111/models/VAE-approx/x.pt"),
        ("checkpoint", "/model.safetensors", "/model.safetensors"),
        ("checkpoint", "/elsewhere/x.ckpt", "/elsewhere/x.ckpt"),
        ("vae", "/opt/a1111/models/VAE/x.pt", "/opt/a1111/models/VAE/x.pt"),
        (
            "vae",
            "/opt/a1111/models/Stable-diffusion/x.vae.pt",
            "/opt/a1111/models/Stable-diffusion/x.vae.pt",
        ),
        (
            "lora",
            "/stable-diffusion-webui/models/LyCORIS/x.pt",
            "/stable-diffusion-webui/models/LyCORIS/x.pt",
        ),
        ("other", "/anywhere", "/anywhere"),
    ],
)
def test_a_path_renames_or_overrides(kind: str, path: str, expected: str) -> None:
    assert target(kind, "003_x4_GAN.pth", path=path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/runpod-volume/models/lora/x.pt",
        "/workspace/stable-diffusion-webui/models/Lora/x.pt",
        "/runpod-volume/ComfyUI/models/loras/x.pt",
        "/workspace/models/loras/x.pt",
        "/mounted/here/models/lora/x.pt",
    ],
)
def test_a_path_on_the_volume_follows_any_layout_that_is_searched(path: str) -> None:
    assert target("lora", "x.pt", path=path, placement="volume") == path


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (model("loras", "x.pt"), "models.0.kind: expected 'checkpoint', 'vae', 'lora'"),
        (model("upscaler", "x.pth", family="Swin"), "no family Swin; one of: ESRGAN, RealESRGAN"),
        (model("lora", "x.pt", family="SwinIR"), "no family SwinIR; this kind has none"),
        (
            model("lora", "x.safetensors", path="/model.safetensors"),
            "/model.safetensors is the checkpoint's place",
        ),
        (model("lora", "x.pt", path="/loras/x.pt"), "does not look for kind lora at /loras/x.pt"),
        (
            model("lora", "x.pt", path="/opt/a1111/models/VAE/x.pt"),
            "does not look for kind lora at /opt/a1111/models/VAE/x.pt",
        ),
        (
            model("upscaler", "x.pth", family="DAT", path="/opt/a1111/models/ESRGAN/x.pth"),
            "does not look for kind upscaler at",
        ),
        (
            model("lora", "x.pt", path="/runpod-volume/deep/models/lora/x.pt", placement="volume"),
            "does not look for kind lora at",
        ),
        (model("checkpoint", "x.pt"), "does not load x.pt as kind checkpoint; expected one of"),
        (model("checkpoint", "x.vae.pt"), "does not load x.vae.pt as kind checkpoint"),
        (model("hypernetwork", "x.safetensors"), "expected one of .pt"),
        (model("other", "x.pt"), "kind other, layout file: expected a path"),
        (model("lora", "x.pt", layout="hub-cache"), "layout hub-cache: expected no kind"),
        (model("lora", "x.pt", path="../x.pt"), "models.0.path: expected an absolute path"),
        (model("lora", "x.pt", path="a/.hidden.pt"), "models.0.path: expected an absolute path"),
        ({"name": "m", "source": {"hub": "o/r", "file": "x.pt"}}, "expected a kind (checkpoint, "),
        (
            {"name": "m", "source": {"hub": "o/r", "file": "x.pt"}, "path": "x.pt"},
            "models.0.path: expected an absolute path, or a kind",
        ),
        (
            {"name": "m", "source": {"hub": "o/r", "file": "x"}, "path": "/x", "family": "DAT"},
            "family DAT needs a kind",
        ),
        (
            {"name": "m", "source": {"url": "https://h.example/download/123"}, "kind": "lora"},
            "the source gives no usable file name; expected `path`",
        ),
    ],
)
def test_a_model_that_the_webui_would_not_see_is_refused(
    tmp_path: Path, entry: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        loaded_from(make_checkout(tmp_path, entry))
    assert expected in str(caught.value)
    assert "config.local.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (
            model("lora", "a/x.pt", "one"),
            model("lora", "b/x.pt", "two"),
            "path used twice: /opt/a1111/models/Lora/x.pt by one and two",
        ),
        (
            model("lora", "x.pt", "one"),
            model("lora", "x.safetensors", "two", path="sub/x.safetensors"),
            "one and two are both lora x, and the WebUI would see only one",
        ),
        (
            model("vae", "x.pt", "one"),
            model("vae", "x.pt", "two", placement="volume"),
            "one and two are both vae x.pt",
        ),
        (
            model("other", "x", "one", path="/a/b"),
            model("other", "x", "two", path="/a/b/c"),
            "two lies below /a/b, the file of one",
        ),
    ],
)
def test_two_models_of_one_place_are_refused_with_both_names(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        loaded_from(make_checkout(tmp_path, one, two))
    assert expected in str(caught.value)


def test_models_that_the_webui_tells_apart_are_accepted(tmp_path: Path) -> None:
    hub_cache = {"path": "/hub", "layout": "hub-cache"}
    root = make_checkout(
        tmp_path,
        model("lora", "x.pt", "lora"),
        model("embedding", "x.pt", "embedding"),
        model("checkpoint", "x.safetensors", "weights"),
        model("checkpoint", "x.yaml", "configuration"),
        model("checkpoint", "x.safetensors", "other-folder", path="b/x.safetensors"),
        {"name": "one", "source": {"hub": "o/one", "files": ["a", "b"]}, **hub_cache},
        {"name": "two", "source": {"hub": "o/two", "files": ["a", "b"]}, **hub_cache},
    )
    assert len(loaded_from(root).config.models) == 7


def mixed_checkout(folder: Path) -> Path:
    """Make a checkout with a checkpoint, a LoRA in the image and one on the volume."""
    kind = {"path": None, "kind": "lora"}
    return make_checkout(
        folder / "checkout",
        local(folder, "main", ONE, path="/model.safetensors", licence="CC0-1.0"),
        local(folder, "detail", TWO, **kind),
        local(folder, "far", TWO, **kind, placement="volume", licence="MIT"),
    )


def test_models_by_kind_are_staged_below_the_image_tree(tmp_path: Path) -> None:
    root = mixed_checkout(tmp_path)
    loaded = loaded_from(root)
    volume = [m for m in loaded.config.models if m.placement == "volume"]
    files = prefetch_models(root)
    with staged_context(store_of(root), files, artifacts_of(loaded, volume)) as folder:
        assert (folder / "model.safetensors").read_bytes() == ONE
        extra = folder / "extra" / "opt"
        assert (extra / "a1111/models/Lora/detail.safetensors").read_bytes() == TWO
        assert [*read_list(extra / "worker/volume-models.json")] == [
            "/runpod-volume/models/lora/far.safetensors"
        ]
    baked = ("/model.safetensors", "/opt/a1111/models/Lora/detail.safetensors")
    assert model_paths(files) == baked


def test_a_configuration_is_staged_beside_its_checkpoint(tmp_path: Path) -> None:
    text = b"model: {target: sgm.models.diffusion.DiffusionEngine}\n"
    sidecar = tmp_path / "x.yaml"
    sidecar.write_bytes(text)
    source = {"source": {"url": sidecar.as_uri()}, "kind": "checkpoint", "sha256": sha(text)}
    root = make_checkout(
        tmp_path / "checkout",
        local(tmp_path, "main", ONE, path="/model.safetensors"),
        {"name": "for-main", **source, "path": "/model.yaml"},
        {"name": "for-another", **source},
    )
    files = prefetch_models(root)
    with staged_context(store_of(root), files) as folder:
        assert (folder / "extra/model.yaml").read_bytes() == text
        place = "extra/opt/a1111/models/Stable-diffusion/x.yaml"
        assert (folder / place).read_bytes() == text


def test_an_artifact_has_the_kind_and_the_release_that_loads_it(tmp_path: Path) -> None:
    loaded = loaded_from(
        make_checkout(
            tmp_path / "checkout",
            local(tmp_path, "main", ONE, path="/model.safetensors"),
            model("lora", "x.safetensors"),
            model("checkpoint", "x.yaml", "configuration"),
        )
    )
    specs = [each.spec for each in artifacts_of(loaded, loaded.config.models)]
    assert [spec.kind for spec in specs] == ["", "lora", ""]
    assert {spec.release for spec in specs} == {"v1.9.3"}


def test_a_label_has_the_licence_of_each_baked_model(tmp_path: Path) -> None:
    label = resolve(loaded_from(mixed_checkout(tmp_path))).labels[LICENCES_LABEL]
    assert json.loads(label) == {"main": "CC0-1.0", "detail": "unknown"}


def test_the_list_has_kind_place_and_licence(tmp_path: Path) -> None:
    root = mixed_checkout(tmp_path)
    head, main, detail, far = models_table(loaded_from(root), store_of(root)).splitlines()
    assert head.split()[:2] == ["model", "kind"]
    assert head.split()[-3:] == ["licence", "pinned", "here"]
    assert main.split()[1] == "checkpoint"
    assert "CC0-1.0" in main
    assert detail.split()[1] == "lora"
    assert detail.split()[-4:-2] == ["/opt/a1111/models/Lora/detail.safetensors", "-"]
    assert "volume" in far


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        ({"hub": "o/r", "file": "sub/photo v3.safetensors"}, {}, "photo v3.safetensors"),
        ({"url": "https://h.example/photo.safetensors?a=b"}, {}, "photo.safetensors"),
        ({"url": "https://h.example/api/download/1"}, {}, "model.safetensors"),
        ({"url": "https://h.example/photo.ckpt"}, {"allow_pickle": True}, "photo.safetensors"),
        (
            {"url": "https://h.example/1"},
            {"webui_name": "art/photo.safetensors"},
            "art/photo.safetensors",
        ),
    ],
)
def test_the_checkpoint_at_start_is_named_after_its_file(
    source: dict[str, str], keys: dict[str, Any], expected: str
) -> None:
    entry = {"name": "m", "source": source, "path": "/model.safetensors", **keys}
    for kind in ({}, {"kind": "checkpoint"}):
        assert Model.model_validate({**entry, **kind}).location.name == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"kind": "lora", "webui_name": "x.safetensors"}, "is for the model at /model.safetensors"),
        ({"path": "/model.safetensors", "webui_name": "x.ckpt"}, "such as photo.safetensors"),
        ({"path": "/model.safetensors", "webui_name": "/x.safetensors"}, "such as photo"),
        (
            {"path": "/model.safetensors", "webui_name": "../x.safetensors"},
            "expected an absolute path",
        ),
    ],
)
def test_a_name_in_the_webui_that_cannot_be_is_refused(keys: dict[str, str], expected: str) -> None:
    entry = {"name": "m", "source": {"url": "https://h.example/a.safetensors"}, **keys}
    with pytest.raises(ValidationError, match=expected):
        Model.model_validate(entry)


def test_no_other_checkpoint_has_the_name_of_the_one_at_start(tmp_path: Path) -> None:
    start = {**model("checkpoint", "x.safetensors", "a"), "path": "/model.safetensors"}
    del start["kind"]
    root = make_checkout(tmp_path, start, model("checkpoint", "x.safetensors", "b"))
    with pytest.raises(UserError, match=r"a and b are both checkpoint x\.safetensors"):
        loaded_from(root)


def test_a_build_without_prefetch_leaves_no_model_out(tmp_path: Path) -> None:
    clip = {
        "name": "clip",
        "source": {"hub": "o/clip", "files": ["a", "b"]},
        "path": "/hub",
        "layout": "hub-cache",
    }
    main = {**model("checkpoint", "x.safetensors", "main"), "path": "/model.safetensors"}
    second = {**clip, "name": "second", "source": {"hub": "o/bert", "files": ["a"]}}
    lora = model("lora", "x.safetensors", "detail")
    root = make_checkout(tmp_path, main, clip, second, lora)
    inputs = resolve(loaded_from(root))
    assert inputs.arguments["VOCABULARY_REPO"] == "o/clip"
    (root / "requirements").mkdir()
    (root / inputs.config.build.requirements).touch()
    with pytest.raises(UserError, match="not second, detail: --no-prefetch"):
        build_image(inputs, BuildOptions(prefetch=False))


def test_the_guide_has_every_kind_with_its_folders() -> None:
    text = (ROOT / "docs" / "how-to" / "models-by-kind.md").read_text(encoding="utf-8")
    for kind, row in KINDS.items():
        below = "/<family>" if row.families else "/<path>" if kind == "other" else ""
        folder = f"models/{kind}{below}"
        assert f"| `{kind}` | `{row.folder}{below}` | `{folder}` |" in text
        assert all(f"`{family}`" in text for family in row.families)


@pytest.mark.parametrize("placement", ["image", "volume"])
def test_the_worker_finds_what_the_builder_places(tmp_path: Path, placement: Placement) -> None:
    files: dict[Kind, str] = {
        kind: f"x{row.suffixes[0]}" for kind, row in KINDS.items() if kind != "other"
    }
    for kind, file in files.items():
        path = tmp_path / target(kind, file, placement=placement)[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    settings = Settings.from_environment(
        {
            "DATA_DIR": str(tmp_path / "data"),
            "IMAGE_MODELS": str(tmp_path / "opt/a1111"),
            "VOLUME_DIR": str(tmp_path / "runpod-volume"),
            "POD_VOLUME_DIR": str(tmp_path / "workspace"),
            "WEBUI_DIR": str(tmp_path / "webui"),
            "VOLUME_MODELS": str(tmp_path / "none.json"),
        }
    )
    tree = build_model_tree(settings)
    assert {entry.kind: entry.name for entry in tree.visible} == files
    for entry in tree.visible:
        assert entry.place == str(data_path(entry.kind, files[entry.kind]))
