"""List model files as the WebUI does, by upstream's rules: folders, suffixes, order and names."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

WITHOUT_WEIGHTS = ("None", "Lanczos", "Nearest")
DEFAULT_UPSCALERS = {
    "ESRGAN": ("ESRGAN_4x",),
    "SwinIR": ("SwinIR 4x",),
    "ScuNET": ("ScuNET GAN", "ScuNET PSNR"),
}
"""Names that are listed while a folder is empty; their weights would be fetched at first use."""

ALWAYS_LISTED = {
    "R-ESRGAN 4x+": "RealESRGAN_x4plus.pth",
    "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B.pth",
}


def natural_key(text: str) -> list[int | str]:
    """Numbers by value, letters without case (modules/util.py)."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split("([0-9]+)", text)]


def walk(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files below a folder, links followed, in upstream's order (walk_files in modules/util.py)."""
    found = sorted(os.walk(folder, followlinks=True), key=lambda row: natural_key(row[0]))
    for root, _, names in found:
        for name in sorted(names, key=natural_key):
            if Path(name).suffix.lower() in suffixes and "/." not in root:
                yield Path(root, name)


def checkpoints(flags: argparse.Namespace) -> dict[str, Path]:
    """Files by title (list_models in modules/sd_models.py)."""
    models = Path(flags.models_dir) / "Stable-diffusion"
    found: dict[str, Path] = {}
    if flags.ckpt and Path(flags.ckpt).exists():
        path = Path(flags.ckpt)
        found[_name(path, models)] = path
    for folder in (*([Path(flags.ckpt_dir)] if flags.ckpt_dir else []), models):
        for path in walk(folder, (".ckpt", ".safetensors")):
            if path.exists() and not path.name.endswith((".vae.ckpt", ".vae.safetensors")):
                found[_name(path, folder)] = path
    return found


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def vaes(flags: argparse.Namespace) -> dict[str, Path]:
    """Files by name (refresh_vae_list in modules/sd_vae.py)."""
    models = Path(flags.models_dir)
    beside = [
        path
        for path in walk(models / "Stable-diffusion", (".ckpt", ".pt", ".safetensors"))
        if path.with_suffix("").suffix == ".vae"
    ]
    own = walk(models / "VAE", (".ckpt", ".pt", ".safetensors"))
    return {path.name: path for path in (*beside, *own)}


def loras(flags: argparse.Namespace) -> dict[str, Path]:
    """Files by name (list_available_networks in extensions-builtin/Lora/networks.py)."""
    models = Path(flags.models_dir)
    folders = (Path(flags.lora_dir or models / "Lora"), models / "LyCORIS")
    files = (path for each in folders for path in walk(each, (".pt", ".ckpt", ".safetensors")))
    return {path.stem: path for path in files}


def embeddings(flags: argparse.Namespace) -> dict[str, Path]:
    """Files by name; upstream also reads them (modules/textual_inversion/textual_inversion.py)."""
    folder = Path(flags.embeddings_dir or Path(flags.data_dir) / "embeddings")
    found = {path.stem: path for path in walk(folder, (".bin", ".pt", ".safetensors"))}
    return {name: found[name] for name in sorted(found, key=str.lower)}


def hypernetworks(flags: argparse.Namespace) -> dict[str, Path]:
    """Files by name (list_hypernetworks in modules/hypernetworks/hypernetwork.py)."""
    folder = Path(flags.models_dir) / "hypernetworks"
    return {path.stem: path for path in walk(folder, (".pt",))}


def upscalers(flags: argparse.Namespace) -> dict[str, Path | None]:
    """Files by name, None where there is none yet (load_upscalers in modules/modelloader.py)."""
    models, found = Path(flags.models_dir), dict.fromkeys(WITHOUT_WEIGHTS, None)
    listed: dict[str, Path | None] = {}
    for family in ("ESRGAN", "SwinIR", "ScuNET", "DAT", "HAT"):
        files = list(walk(models / family, (".pt", ".pth")))
        defaults = () if files else DEFAULT_UPSCALERS.get(family, ())
        listed |= {**dict.fromkeys(defaults), **{path.stem: path for path in files}}
    for name, file in ALWAYS_LISTED.items():
        path = models / "RealESRGAN" / file
        listed[name] = path if path.exists() else None
    listed["LDSR"] = None
    return {**found, **{name: listed[name] for name in sorted(listed, key=str.lower)}}
