"""Apply models besides the checkpoint to a picture: networks, embeddings, VAEs, upscalers.

As upstream, one that is not there or does not load is left out, with a line in the log at most.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from fastapi import HTTPException

from modules.listing import ALWAYS_LISTED
from modules.schema import Drawing, Extras, Txt2Img
from modules.state import WebUI

TAG = re.compile(r"<(lora|hypernet):([^:>]+)[^>]*>")
FACES = ("detection_Resnet50_Final.pth", "parsing_parsenet.pth")  # always below GFPGAN
RESTORERS = {"CodeFormer": ("Codeformer", ""), "GFPGAN": ("GFPGAN", "GFPGAN")}
"""Folder of each restorer, and what the names of its files contain (modules/gfpgan_model.py)."""

LATENT_MODES = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
WITHOUT_WEIGHTS = (None, "None", "Lanczos", "Nearest", *LATENT_MODES)


def plain_prompt(prompt: str) -> str:
    """The prompt without tags of networks, whether they are there or not.

    Spaces are no tokens, so those beside a tag change nothing.
    """
    return " ".join(TAG.sub("", prompt).split())


def keys_of(webui: WebUI, asked: Drawing, vae: str | None) -> tuple[str, ...]:
    """Hashes of the files that a request uses.

    Raises:
        ValueError: the VAE is damaged; other damaged files are left out.
    """
    tags = TAG.findall(asked.prompt)
    if any(kind == "lora" and name not in webui.lists.loras for kind, name in tags):
        webui.list_models()
    lists, text = webui.lists, plain_prompt(asked.prompt)
    files = [path for name, path in lists.embeddings.items() if name in text]
    for kind, name in tags:
        known = lists.loras if kind == "lora" else lists.hypernetworks
        files += [known[name]] if name in known else []
    return (*_keys(files), *([_key(lists.vaes[vae])] if vae else []))


def load_further_models(webui: WebUI, asked: Drawing) -> None:
    """Load what refiner, second pass and face restoration name.

    Raises:
        RuntimeError: a checkpoint or the upscaler of the second pass is unknown.
    """
    checkpoints = [asked.refiner_checkpoint]
    if isinstance(asked, Txt2Img) and asked.enable_hr:
        checkpoints.append(asked.hr_checkpoint_name)
        name = asked.hr_upscaler
        if name not in (*WITHOUT_WEIGHTS, *webui.lists.upscalers):
            raise RuntimeError(f"could not find upscaler named {name}")
        if name not in WITHOUT_WEIGHTS and not webui.lists.upscalers[str(name)]:
            print(f"*** Unable to load ESRGAN model {name}", file=sys.stderr, flush=True)
    for name in checkpoints:
        is_named = name not in (None, "", "None", "Use same checkpoint")
        if is_named and not any(str(name) in title for title in webui.checkpoints):
            raise RuntimeError(f"Could not find checkpoint with name {name}")
    restores, option = asked.restore_faces, webui.options["face_restoration"]
    if option if restores is None else restores:
        restorer = str(webui.options["face_restoration_model"])
        if restorer in RESTORERS:  # another one leaves the picture as it is
            restore_faces(webui, b"", restorer)


def chosen_vae(webui: WebUI) -> str | None:
    """The VAE of the options; None for the checkpoint's own, also where the name is unknown."""
    name = str(webui.options["sd_vae"])
    if name not in webui.lists.vaes and name not in ("Automatic", "None"):
        print(f"Couldn't find VAE named {name}; using None instead", flush=True)
    return name if name in webui.lists.vaes else None


def enlarge(webui: WebUI, image: bytes, asked: Extras) -> bytes:
    """Enlarge by an upscaler, or by Lanczos where its weights are not there."""
    name, upscalers = asked.upscaler_1, webui.lists.upscalers
    assert name in upscalers, f"could not find upscaler named {name}"
    if name == "None":
        return image
    file = upscalers[name]
    method = "nearest" if name == "Nearest" else "lanczos"
    if not file and name not in ("Lanczos", "Nearest"):
        family = "RealESRGAN" if name in ALWAYS_LISTED else "ESRGAN"
        print(f"*** Unable to load {family} model {name}", file=sys.stderr, flush=True)
    keys = list(_keys([file] if file else []))
    return webui.engine.upscale(image, asked.upscaling_resize, method, "".join(keys))


def restore_faces(webui: WebUI, image: bytes, restorer: str) -> bytes:
    """Load a restorer; noise has no face, so that the picture stays as it is.

    Raises:
        HTTPException: the weights that find faces are missing.
    """
    models = Path(webui.flags.models_dir)
    folder, part = RESTORERS[restorer]
    files = [path for path in (models / folder).glob("*.pth") if part in path.name]
    if not files:
        print("Unable to load face-restoration model", file=sys.stderr, flush=True)
        return image
    if not all((models / "GFPGAN" / name).exists() for name in FACES):
        raise HTTPException(500, "<urlopen error [Errno -3] Temporary failure>")
    return image


def describe(webui: WebUI, model: str, image: bytes) -> str:
    """A caption of clip, which needs BLIP, or tags of deepdanbooru."""
    models = Path(webui.flags.models_dir)
    if model == "deepdanbooru":
        if not list((models / "torch_deepdanbooru").glob("*.pt")):
            raise HTTPException(500, "<urlopen error [Errno -3] Temporary failure>")
    elif not list((models / "BLIP").glob("*.pth")):
        print("*** Error interrogating", file=sys.stderr, flush=True)
        return "<error>"
    return f"a picture of {len(image)} bytes"


def _keys(files: list[Path]) -> Iterator[str]:
    for file in files:
        try:
            yield _key(file)
        except (OSError, ValueError) as error:
            print(f"loading network {file}: {type(error).__name__}", file=sys.stderr, flush=True)


def _key(file: Path) -> str:
    """The hash of a file; a safetensors file must be whole, judged by length."""
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        header = int.from_bytes(content[:8], "little")
        if len(content) < 8 or header > len(content) - 8:
            raise ValueError("Error while deserializing header: HeaderTooLarge")
    return sha256(content).hexdigest()
