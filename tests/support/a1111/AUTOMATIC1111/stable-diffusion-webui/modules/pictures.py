"""From a request for pictures to its answer, damaged where a fault says so."""

from __future__ import annotations

import base64
import binascii
import io
import json
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import PlainTextResponse, Response

from modules import faults, scripts, used_models
from modules.engines import Picture
from modules.schema import Drawing, Img2Img
from modules.state import WebUI, seed_or_random

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
SCHEDULERS = {"automatic": "Automatic", "karras": "Karras", "sgm_uniform": "SGM Uniform"}
SAMPLERS = {"Euler": ["k_euler"], "Euler a": ["k_euler_a"], "DPM++ 2M": ["k_dpmpp_2m"], "DDIM": []}


def decode(image: str) -> bytes:
    """The bytes of a base64 picture, with or without `data:image/png;base64,` before it."""
    try:
        return base64.b64decode(image.rpartition(";base64,")[2], validate=True)
    except binascii.Error:
        raise HTTPException(500, "Invalid encoded image") from None


def answer(webui: WebUI, name: str, asked: Drawing) -> dict[str, Any] | Response:
    """Draw what was asked.

    Args:
        webui: who draws.
        name: of the job, as /sdapi/v1/progress shows it.
        asked: the request.
    """
    sampler = asked.sampler_name or asked.sampler_index
    if sampler not in SAMPLERS:
        raise HTTPException(404, "Sampler not found")
    runner = webui.runners[name]
    if asked.script_name:  # no stand-in of an extension has a script to select
        raise HTTPException(422, f"Script '{asked.script_name}' not found")
    arguments = runner.arguments(asked.alwayson_scripts)
    fault = faults.of_next_job()
    before = dict(webui.options)
    webui.override_options(asked.override_settings or {})
    model, vae = webui.checkpoint.stem, used_models.chosen_vae(webui)
    clip_skip = int(str(webui.options["CLIP_stop_at_last_layers"]))
    try:
        fields = ("prompt", "negative_prompt", "seed", "steps", "width", "height")
        job = scripts.Processing(**{field: getattr(asked, field) for field in fields})
        runner.run(job, arguments)
        asked = asked.copy(update={field: getattr(job, field) for field in fields})
        used_models.load_further_models(webui, asked)
        keys = used_models.keys_of(webui, asked, vae)
        seed, pictures = _plan(asked, keys, fault)
        images = webui.draw(name, pictures, fault)
    finally:
        if asked.override_settings_restore_afterwards:
            webui.options = before
    if fault == "garbage":
        return PlainTextResponse("<html>neither JSON nor a picture</html>")
    if fault == "truncated-png":
        images = [image[: len(image) // 2] for image in images]
    images = [_encode(image, str(webui.options["samples_format"]).lower()) for image in images]
    if fault == "no-images" or not asked.send_images:
        images = []
    return {
        "images": [base64.b64encode(image).decode() for image in images],
        "parameters": {**dict(asked), "init_images": None},
        "info": json.dumps(
            _info(asked, sampler, seed, model, clip_skip)
            | {"sd_vae_name": vae, "extra_generation_params": job.extra_generation_params}
        ),
    }


def _encode(image: bytes, form: str) -> bytes:
    """A picture in the format of the options, as they are once a job's own have been restored."""
    if form == "png":
        return image
    if form not in ("jpg", "jpeg", "webp"):
        raise HTTPException(500, "Invalid image format")
    from PIL import Image

    encoded = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").save(
        encoded, format="WEBP" if form == "webp" else "JPEG"
    )
    return encoded.getvalue()


def _plan(asked: Drawing, keys: tuple[str, ...], fault: str) -> tuple[int, list[Picture]]:
    """The seed, and every picture of the batch with its own."""
    start = b""
    if isinstance(asked, Img2Img):
        if not asked.init_images:
            raise HTTPException(404, "Init image not found")
        start = decode(asked.init_images[0])
    seed = seed_or_random(asked.seed)
    width = asked.width // 8 * 8  # latent pixels are 8 wide and high
    width = width - 8 if fault == "wrong-size" else width
    pictures = [
        Picture(
            prompt=used_models.plain_prompt(asked.prompt),
            seed=seed + number,
            width=width,
            height=asked.height // 8 * 8,
            steps=asked.steps,
            start=start,
            flat=fault == "flat",
            keys=keys,
        )
        for number in range(asked.batch_size * asked.n_iter)
    ]
    return seed, pictures


def _info(asked: Drawing, sampler: str, seed: int, model: str, clip_skip: int) -> dict[str, Any]:
    count = asked.batch_size * asked.n_iter
    size = f"Size: {asked.width}x{asked.height}"
    text = (
        f"{asked.prompt}\nSteps: {asked.steps}, Sampler: {sampler}, Seed: {seed}, {size}, "
        f"Model: {model}, {f'Clip skip: {clip_skip}, ' if clip_skip > 1 else ''}"
        f"Version: {_version()}"
    )
    return {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "seed": seed,
        "all_seeds": [seed + number for number in range(count)],
        "width": asked.width,
        "height": asked.height,
        "steps": asked.steps,
        "cfg_scale": asked.cfg_scale,
        "sampler_name": sampler,
        "batch_size": asked.batch_size,
        "sd_model_name": model,
        "infotexts": [text] * count,
    }


def _version() -> str:
    """As upstream tells it where there is no git history: the changelog's first line."""
    lines = CHANGELOG.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.strip()).replace("## ", "").strip()
