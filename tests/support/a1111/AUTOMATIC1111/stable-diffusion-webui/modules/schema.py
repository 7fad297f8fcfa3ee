"""Request bodies with upstream's field names and defaults; fields it does not know are ignored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Txt2Img(BaseModel):
    """/sdapi/v1/txt2img."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    steps: int = 50
    width: int = 512
    height: int = 512
    cfg_scale: float = 7.0
    batch_size: int = 1
    n_iter: int = 1
    sampler_name: str | None = None
    sampler_index: str = "Euler"
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    send_images: bool = True


class Img2Img(Txt2Img):
    """/sdapi/v1/img2img."""

    init_images: list[str] | None = None
    denoising_strength: float = 0.75
    include_init_images: bool = False


class Extras(BaseModel):
    """/sdapi/v1/extra-single-image."""

    image: str = ""
    upscaling_resize: float = 2
    upscaler_1: str = "None"


class Interrogate(BaseModel):
    """/sdapi/v1/interrogate."""

    image: str = ""
    model: str = "clip"
