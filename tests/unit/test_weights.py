"""Tests of the table of auxiliary weights, against what A1111's source says of each file."""

from pathlib import PurePosixPath

import pytest

from scripts.common.models.kinds import CLIP_FOLDER, KINDS, has_accepted_suffix
from scripts.common.models.weights import (
    FEATURES,
    auxiliary_weights,
    features,
    features_for,
    weights_for,
    weights_of,
)

RELEASES = ("v1.9.3", "v1.10.1")


def test_rows_are_complete() -> None:
    rows = auxiliary_weights()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.features
        assert row.names
        assert bool(row.url) != bool(row.hub and row.file)
        assert not row.sha256 or len(row.sha256) == 64
        assert set(row.releases) <= set(RELEASES)


def test_no_two_files_have_one_place() -> None:
    places = [
        row.data_path or PurePosixPath(row.path, row.hub, row.file) for row in auxiliary_weights()
    ]
    assert len(set(places)) == len(places)


def test_kinds_load_their_files() -> None:
    for row in auxiliary_weights():
        if row.kind is None:
            assert row.path.startswith("/")
            continue
        assert has_accepted_suffix(row.kind, row.path)
        assert row.kind == "other" or row.family in KINDS[row.kind].families


# realesrgan_model.py:85-120, esrgan_model.py:11-12, swinir_model.py:18-30, scunet_model.py:12-28,
# ldsr_model.py:33-45, dat_model.py:60-79, gfpgan_model.py, codeformer_model.py, interrogate.py,
# deepbooru.py, face_restoration_utils.py:163-180; alike in both releases.
@pytest.mark.parametrize(
    ("use", "name", "places"),
    [
        ("upscaler", "R-ESRGAN 4x+", {"models/RealESRGAN/RealESRGAN_x4plus.pth"}),
        ("upscaler", "ESRGAN_4x", {"models/ESRGAN/ESRGAN_4x.pth"}),
        ("upscaler", "SwinIR 4x", {"models/SwinIR/SwinIR 4x.pth"}),
        ("upscaler", "ScuNET GAN", {"models/ScuNET/ScuNET GAN.pth"}),
        ("upscaler", "ScuNET PSNR", {"models/ScuNET/ScuNET PSNR.pth"}),
        ("upscaler", "LDSR", {"models/LDSR/model.ckpt", "models/LDSR/project.yaml"}),
        ("upscaler", "DAT x3", {"models/DAT/DAT_x3.pth"}),
        (
            "face-restorer",
            "CodeFormer",
            {
                "models/Codeformer/codeformer-v0.1.0.pth",
                "models/GFPGAN/detection_Resnet50_Final.pth",
                "models/GFPGAN/parsing_parsenet.pth",
            },
        ),
        (
            "interrogator",
            "deepdanbooru",
            {"models/torch_deepdanbooru/model-resnet_custom_v3.pt"},
        ),
        ("preview", "SDXL", {"models/VAE-approx/vaeapprox-sdxl.pt"}),
        ("upscaler", "Lanczos", set()),
    ],
)
@pytest.mark.parametrize("release", RELEASES)
def test_files_that_a_name_needs(release: str, use: str, name: str, places: set[str]) -> None:
    found = weights_for(use, name, release)  # type: ignore[arg-type]  # parametrized
    assert {str(row.data_path) for row in found} == places


def test_the_worker_tells_a1111_where_the_interrogators_clip_lies() -> None:
    [clip] = [row for row in auxiliary_weights() if row.name == "clip-vit-l-14"]
    assert clip.data_path == PurePosixPath(CLIP_FOLDER, "ViT-L-14.pt")


def test_features_for_a_name() -> None:
    assert features_for("upscaler", "SwinIR 4x") == ("upscale",)
    assert features_for("upscaler", "DAT x2") == ("upscale-dat",)
    assert features_for("face-restorer", "GFPGAN") == ("faces",)
    assert features_for("tokenizer", "SD3") == ("tokenizer", "sd3")
    assert features_for("upscaler", "4x-UltraSharp") == ()


def test_each_face_feature_has_the_shared_detection() -> None:
    """GFPGAN is never fetched once detection is there (modelloader.py:79), so all come together."""
    for feature, count in (("faces", 4), ("gfpgan", 3)):
        names = {row.name for row in weights_of(feature)}  # type: ignore[arg-type]  # literal
        assert {"gfpgan", "facexlib-detection", "facexlib-parsing"} <= names
        assert len(names) == count


def test_features_by_release() -> None:
    assert features() == features("v1.10.1") == tuple(FEATURES)
    assert set(FEATURES) - set(features("v1.9.3")) == {"sd3", "sd3-t5"}
