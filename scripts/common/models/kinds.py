"""Kinds of models: the folder in which the WebUI looks for each, and the folders on a volume.

One table for the builder (where a file goes) and the worker (what a folder holds). Folders of the
WebUI are relative to its data folder (`--data-dir`). Sources, alike in A1111 v1.9.3 and v1.10.1:
`cmd_args.py`, `upscaler.py:40`, `sd_vae.py:75-98`, `sd_vae_approx.py`, `sd_vae_taesd.py`,
`sd_models.py`, `interrogate.py`, `deepbooru.py`, `textual_inversion/autocrop.py` and the files
`*_model.py`, whose `ext_filter` gives the suffixes, all in `modules`, and
`extensions-builtin/Lora/networks.py`. ComfyUI's names are those of its `folder_paths.py`.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

Kind = Literal[
    "checkpoint",
    "vae",
    "lora",
    "embedding",
    "hypernetwork",
    "controlnet",
    "upscaler",
    "face-restoration",
    "interrogate",
    "adetailer",
    "other",
]

Identity = Literal["path", "file", "stem"]

IMAGE_TREE: Final = PurePosixPath("/opt/a1111")
"""Folder of the image whose content has the shape of the WebUI's data folder."""

CLIP_FOLDER: Final = "models/CLIP"
"""Folder of the data folder for CLIP models: the interrogator's, by a flag, and SD3's."""

VAE_SUFFIXES: Final = (".vae.safetensors", ".vae.ckpt", ".vae.pt")
"""Endings of a VAE that lies beside its checkpoint; the WebUI does not list it as a checkpoint."""

PICKLE_SUFFIXES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
IMAGE_SUFFIXES: Final = (".png", ".webp", ".jxl", ".avif")
"""Suffixes of images, which may hold an embedding."""

COMPANION_SUFFIXES: Final = (".yaml", ".json", ".txt")
"""Suffixes of files that belong to the model of the same stem: configuration and metadata."""


@dataclass(frozen=True)
class KindRow:
    """One kind of models.

    Args:
        meaning: what the models are, for the reference.
        folder: folder in the data folder; the parent of the families' folders where it has some.
        suffixes: suffixes that the WebUI loads, in lower case.
        identity: what tells two models of the kind apart in the WebUI: the path below the folder,
            the file name or its stem. Of two that are not told apart one is never seen.
        families: folders below `folder`, one for each architecture; the first is the default.
        further_folders: other folders of the data folder with such models.
        comfyui: folders of ComfyUI's `models` with such models.
    """

    meaning: str
    folder: str
    suffixes: tuple[str, ...]
    identity: Identity = "path"
    families: tuple[str, ...] = ()
    further_folders: tuple[str, ...] = ()
    comfyui: tuple[str, ...] = ()


_WEIGHTS: Final = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

KINDS: Final[dict[Kind, KindRow]] = {
    "checkpoint": KindRow(
        "a whole Stable Diffusion model",
        "models/Stable-diffusion",
        (".safetensors", ".ckpt"),
        comfyui=("checkpoints",),
    ),
    "vae": KindRow(
        "a decoder that replaces the checkpoint's own",
        "models/VAE",
        (".safetensors", ".ckpt", ".pt"),
        "file",
        comfyui=("vae",),
    ),
    "lora": KindRow(
        "a LoRA or LyCORIS network, used as <lora:name:1> in a prompt",
        "models/Lora",
        (".safetensors", ".ckpt", ".pt"),
        "stem",
        further_folders=("models/LyCORIS",),
        comfyui=("loras",),
    ),
    "embedding": KindRow(
        "a textual inversion, used by its name in a prompt",
        "embeddings",
        (".safetensors", ".pt", ".bin", *IMAGE_SUFFIXES),
        "stem",
        comfyui=("embeddings",),
    ),
    "hypernetwork": KindRow(
        "a hypernetwork, used as <hypernet:name:1> in a prompt",
        "models/hypernetworks",
        (".pt",),
        "stem",
        comfyui=("hypernetworks",),
    ),
    "controlnet": KindRow(
        "a model of the ControlNet extension",
        "models/ControlNet",
        _WEIGHTS,
        "stem",
        comfyui=("controlnet",),
    ),
    "upscaler": KindRow(
        "an upscaler, by the architecture that loads it",
        "models",
        (".pth", ".pt", ".ckpt", ".safetensors", ".yaml"),
        families=("ESRGAN", "RealESRGAN", "SwinIR", "ScuNET", "DAT", "HAT", "LDSR"),
        comfyui=("upscale_models",),
    ),
    "face-restoration": KindRow(
        "GFPGAN or CodeFormer, and the face detection that both use",
        "models",
        (".pth",),
        families=("GFPGAN", "Codeformer"),
        comfyui=("facerestore_models",),
    ),
    "interrogate": KindRow(
        "a model that describes an image in words",
        "models",
        (".pth", ".pt"),
        families=("BLIP", "torch_deepdanbooru"),
    ),
    "adetailer": KindRow(
        "a detector of the ADetailer extension",
        "models/adetailer",
        (".pt",),
        "file",
        comfyui=("ultralytics",),
    ),
    "other": KindRow(
        "any other file; `path` says where it goes",
        "models",
        (*_WEIGHTS, ".onnx", ".yaml", ".json"),
        further_folders=(
            "models/CLIP",
            "models/VAE-approx",
            "models/VAE-taesd",
            "models/karlo",
            "models/midas",
            "models/opencv",
        ),
    ),
}
"""Every kind; the order is that of reports."""

_REALESRGAN_FILES: Final = (
    "realesrgan_x4plus.pth",
    "realesrgan_x4plus_anime_6b.pth",
    "realesrgan_x2plus.pth",
    "realesr-general-x4v3.pth",
    "realesr-general-wdn-x4v3.pth",
    "realesr-animevideov3.pth",
)
"""The only files, in lower case, that are loaded from RealESRGAN (`realesrgan_model.py:81-122`)."""


def choose_family(kind: Kind, file: str) -> str:
    """Return the family of a file for which none is given; empty for a kind without families.

    ESRGAN for upscalers: the WebUI loads any architecture that spandrel knows from that folder,
    with a line in its log when it is another (`modules/modelloader.py`, `load_spandrel_model`).
    """
    name = PurePosixPath(file).name.lower()
    if kind == "face-restoration" and "codeformer" in name:
        return "Codeformer"
    if kind == "interrogate" and name.endswith(".pt"):
        return "torch_deepdanbooru"
    if kind == "upscaler" and name in _REALESRGAN_FILES:
        return "RealESRGAN"
    families = KINDS[kind].families
    return families[0] if families else ""


MOVING_FLAGS: Final[dict[str, tuple[Kind, str]]] = {
    "--lora-dir": ("lora", ""),
    "--embeddings-dir": ("embedding", ""),
    "--hypernetwork-dir": ("hypernetwork", ""),
    "--esrgan-models-path": ("upscaler", "ESRGAN"),
    "--realesrgan-models-path": ("upscaler", "RealESRGAN"),
    "--dat-models-path": ("upscaler", "DAT"),
    "--gfpgan-models-path": ("face-restoration", "GFPGAN"),
    "--codeformer-models-path": ("face-restoration", "Codeformer"),
}
"""Flags after which the WebUI no longer looks below its data folder (`modules/cmd_args.py`)."""


def data_path(kind: Kind, file: str, family: str = "") -> PurePosixPath:
    """Return a model's place, relative to the WebUI's data folder.

    Args:
        kind: its kind.
        file: its file name, or a path below the folder of its kind (and family).
        family: one of the kind's families; empty for the default one of this file.
    """
    return PurePosixPath(KINDS[kind].folder, family or choose_family(kind, file), file)


def image_path(kind: Kind, file: str, family: str = "") -> PurePosixPath:
    """Return a baked model's place in the image. Arguments as for `data_path`."""
    return IMAGE_TREE / data_path(kind, file, family)


def volume_path(
    kind: Kind, file: str, family: str = "", *, volume: str = "/runpod-volume"
) -> PurePosixPath:
    """Return a model's place on the network volume. Arguments as for `data_path`."""
    return PurePosixPath(volume, "models", kind, family or choose_family(kind, file), file)


def has_accepted_suffix(kind: Kind, file: str) -> bool:
    """Return whether the WebUI would load a file of this name as a model of this kind."""
    return file.lower().endswith(KINDS[kind].suffixes)


def identify(kind: Kind, path: str) -> str:
    """Return what the WebUI tells a model apart by; two with the same are one to it.

    Args:
        kind: its kind.
        path: its path below the folder of its kind (and family).
    """
    found = PurePosixPath(path)
    return {"path": str(found), "file": found.name, "stem": found.stem}[KINDS[kind].identity]
