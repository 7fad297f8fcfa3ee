"""Bake models of several kinds into an image of the stand-in WebUI, and say so in a config."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

import yaml

from scripts.common.models.kinds import Kind, image_path

FILES: dict[str, Kind] = {
    "second.safetensors": "checkpoint",
    "soft.safetensors": "vae",
    "style.safetensors": "lora",
    "easy.safetensors": "embedding",
    "old.pt": "hypernetwork",
    "4x-Sharp.pth": "upscaler",
    "RealESRGAN_x4plus.pth": "upscaler",
    "GFPGANv1.4.pth": "face-restoration",
    "detection_Resnet50_Final.pth": "face-restoration",
    "parsing_parsenet.pth": "face-restoration",
    "model_base_caption.pth": "interrogate",
}
"""Kind by file name. The stand-in takes any content for a pickle."""

_SAFETENSORS = (
    r"\067\0\0\0\0\0\0\0"  # the header's length, 55
    '{"t":{"dtype":"U8","shape":[8],"data_offsets": [0, 8]}}'
)

CHECKS = (
    "checkpoint second.safetensors draws",
    "VAE soft.safetensors changes the image",
    "LoRA style changes the image",
    "embedding easy changes the image",
    "hypernetwork old changes the image",
    "upscaler 4x-Sharp differs from resampling",
    "upscaler R-ESRGAN 4x+ differs from resampling",
    "face restorer GFPGAN runs",
    "interrogator clip describes an image",
)
"""Checks that the smoke session makes of them."""


def config_with_models() -> str:
    """Return a config that names them, and the checkpoint that each image has."""
    models = [_model("Deliberate_v6.safetensors", path="/model.safetensors")]
    models += [_model(file, kind=kind) for file, kind in FILES.items()]
    return yaml.safe_dump({"models": models})


def _model(file: str, **keys: str) -> dict[str, object]:
    name = f"m-{PurePosixPath(file).stem}"
    return {"name": name, "source": {"url": f"https://models.invalid/{file}"}, **keys}


def dockerfile_lines(*, missing: Collection[str] = (), broken: Collection[str] = ()) -> list[str]:
    """Return lines that make the files; those of small size are what the checks of files accept.

    Args:
        missing: files to leave out.
        broken: files to fill with something else.
    """
    lines = []
    for file, kind in FILES.items():
        path = image_path(kind, file)
        content = "head -c 500 /dev/urandom"
        if file in broken:
            content = "echo broken"
        elif file.endswith(".safetensors"):
            content = f"printf '{_SAFETENSORS}{file[:8]}'"  # eight bytes, which tell files apart
        if file not in missing:
            lines.append(f"mkdir -p '{path.parent}' && {content} >'{path}'")
    return [f"RUN {' && '.join(lines)}"]
