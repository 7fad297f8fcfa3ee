"""The table of kinds: where a model of each kind lies for the WebUI, in the image, on a volume."""

from __future__ import annotations

from typing import get_args

import pytest

from scripts.common.models.kinds import (
    KINDS,
    Kind,
    choose_family,
    data_path,
    has_accepted_suffix,
    identify,
    image_path,
    volume_path,
)


def test_every_kind_has_one_row() -> None:
    assert tuple(KINDS) == get_args(Kind)


@pytest.mark.parametrize(
    ("kind", "file", "place"),
    [
        ("checkpoint", "photo/x.safetensors", "models/Stable-diffusion/photo/x.safetensors"),
        ("vae", "x.pt", "models/VAE/x.pt"),
        ("lora", "x.safetensors", "models/Lora/x.safetensors"),
        ("embedding", "x.pt", "embeddings/x.pt"),
        ("upscaler", "4x-UltraSharp.pth", "models/ESRGAN/4x-UltraSharp.pth"),
        ("upscaler", "RealESRGAN_x4plus.pth", "models/RealESRGAN/RealESRGAN_x4plus.pth"),
        ("face-restoration", "codeformer-v0.1.0.pth", "models/Codeformer/codeformer-v0.1.0.pth"),
        ("face-restoration", "GFPGANv1.4.pth", "models/GFPGAN/GFPGANv1.4.pth"),
        ("interrogate", "model_base_caption.pth", "models/BLIP/model_base_caption.pth"),
        ("other", "VAE-approx/x.pt", "models/VAE-approx/x.pt"),
    ],
)
def test_a_file_goes_where_the_webui_looks(kind: Kind, file: str, place: str) -> None:
    assert str(data_path(kind, file)) == place
    assert str(image_path(kind, file)) == f"/opt/a1111/{place}"


def test_a_volume_has_a_folder_a_kind_and_family() -> None:
    assert str(volume_path("lora", "x.pt")) == "/runpod-volume/models/lora/x.pt"
    place = volume_path("upscaler", "x.pth", "SwinIR", volume="/v")
    assert str(place) == "/v/models/upscaler/SwinIR/x.pth"
    assert choose_family("lora", "x.pt") == ""


def test_suffixes_are_those_that_the_webui_loads() -> None:
    assert has_accepted_suffix("checkpoint", "x.SAFETENSORS")
    assert not has_accepted_suffix("checkpoint", "x.pt")
    assert not has_accepted_suffix("hypernetwork", "x.safetensors")


def test_names_that_the_webui_cannot_tell_apart_are_one() -> None:
    assert identify("lora", "a/x.pt") == identify("lora", "b/x.safetensors") == "x"
    assert identify("vae", "a/x.pt") == "x.pt"
    assert identify("checkpoint", "a/x.ckpt") != identify("checkpoint", "b/x.ckpt")
