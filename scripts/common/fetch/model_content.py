"""Determine from the names and shapes of tensors what a model file holds, and refuse a wrong kind.

The names are those that the WebUI looks for: `modules/sd_models_config.py` (checkpoints),
`extensions-builtin/Lora/networks.py` and `network_*.py` (LoRA; also kohya-ss/sd-scripts and
LyCORIS, which write them), `modules/sd_vae.py` and
`modules/textual_inversion/textual_inversion.py`, alike in A1111 v1.9.3 and v1.10.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.embedding_file import check_embedding_tensors

if TYPE_CHECKING:
    from scripts.common.fetch.pickle_dry_run import PickleContent

Base = Literal["SD1", "SD2", "SDXL", "SDXL refiner", "SD3", ""]
ContentKind = Literal["checkpoint", "vae", "lora", "embedding", "controlnet", "upscaler", ""]
Layout = Literal["", "diffusers", "checkpoint"]
Shapes = Mapping[str, tuple[int, ...]]

_LABELS: Final = {
    "checkpoint": "a checkpoint",
    "vae": "a VAE",
    "lora": "a LoRA",
    "embedding": "an embedding",
    "controlnet": "a ControlNet",
    "upscaler": "a model of kind upscaler",
    "": "unknown",
}
_BASE_BY_WIDTH: Final[dict[int, Base]] = {768: "SD1", 1024: "SD2", 2048: "SDXL"}

_UNET: Final = "model.diffusion_model."
# LDSR has a latent diffusion model like a checkpoint's, but an autoencoder that quantizes
# (`VQModel` in extensions-builtin/LDSR/sd_hijack_autoencoder.py).
_QUANTIZED: Final = "first_stage_model.quantize.embedding.weight"
_LORA_PART: Final = re.compile(
    r"\.(lora_(up|down|mid|A|B)|hada_w[12]_[ab]|lokr_(w|t)[12](_[ab])?|oft_(diag|blocks)|diff(_b)?"
    r"|[ab][12]|on_input|w_norm|b_norm|dora_scale|lora\.(up|down)|lora_linear_layer\.(up|down)"
    r"|(to_[qkv]|to_out)_lora\.(up|down))(\.|$)"
)
_LORA_ROOT: Final = re.compile(r"(lora|oft|lycoris)_(unet|te[123]?|transformer)_|bundle_emb\.")
_DIFFUSERS_ROOT: Final = re.compile(r"(unet|text_encoder(_2)?|base_model)\.")
_CONTEXT: Final = re.compile(r"attn2[._]to_k(\.lora_down)?\.weight$")
_CONTROLNET: Final = re.compile(
    r"control_model\.|lora_controlnet$|input_hint_block\.|controlnet_cond_embedding\."
    r"|controlnet_down_blocks\.|lllite_|image_proj\.|ip_adapter\."
)


@dataclass(frozen=True)
class ModelContent:
    """Content of a model file.

    Args:
        kind: kind of model; empty if the names of its tensors do not show it.
        base: base model that it is, or was made for; empty if unknown.
        layout: empty for the names that the WebUI reads; `diffusers` for those of the diffusers
            library; `checkpoint` for a VAE whose names are those inside a checkpoint.
    """

    kind: ContentKind = ""
    base: Base = ""
    layout: Layout = ""

    @property
    def label(self) -> str:
        """Its description in messages."""
        label = _LABELS[self.kind]
        if self.kind == "checkpoint" and self.layout == "diffusers":
            label = "a UNet alone"
        if self.kind == "checkpoint" and self.base:
            label += f" of {self.base}"
        layouts = {
            "diffusers": ", in the layout of diffusers",
            "checkpoint": ", with the names that it has inside a checkpoint",
            "": "",
        }
        return label + layouts[self.layout]

    def misfit(self, kind: str) -> str:
        """Return why the content is no model of a kind for the WebUI; empty if nothing shows it.

        Content that is not recognized is no misfit.
        """
        if kind in ("", "other", "interrogate", "adetailer") or not self.kind:
            return ""
        if kind != self.kind:
            return f"the file is {self.label}, not {_LABELS.get(kind, f'a model of kind {kind}')}"
        if self.layout and kind in ("checkpoint", "vae", "lora"):
            return f"the file is {self.label}, which the WebUI cannot load"
        return ""


def describe(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> ModelContent:
    """Determine what a file with these tensors holds.

    Args:
        shapes: shape of each tensor, by name.
        metadata: `__metadata__` of a safetensors file.
    """
    names = list(shapes)
    if any(_CONTROLNET.match(name) for name in names):
        return ModelContent("controlnet")
    if _is_lora(names):
        native = any(not _DIFFUSERS_ROOT.match(name) for name in names)
        return ModelContent(
            "lora", _lora_base(shapes, metadata or {}), "" if native else "diffusers"
        )
    if _QUANTIZED in shapes:
        return ModelContent("upscaler")
    if any(name.startswith(_UNET) for name in names):
        return ModelContent("checkpoint", _checkpoint_base(shapes))
    if "conv_in.weight" in shapes and any(name.startswith("down_blocks.") for name in names):
        return ModelContent("checkpoint", _context_base(shapes), "diffusers")
    if layout := _vae_layout(names):
        return ModelContent("vae", "", layout[0])
    if _is_embedding(shapes):
        return ModelContent("embedding", _embedding_base(shapes))
    return ModelContent()


def refuse_misfit(
    shapes: Shapes, kind: str, name: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Refuse a file whose tensors show that it is of another kind.

    Args:
        shapes: shape of each tensor, by name.
        kind: its kind of model.
        name: its name in messages.
        metadata: `__metadata__` of a safetensors file.

    Raises:
        UserError: what it is (code `wrong-kind`).
    """
    if misfit := describe(shapes, metadata).misfit(kind):
        raise UserError(misfit, location=name, code="wrong-kind")


def check_content(content: PickleContent, kind: str, name: str) -> None:
    """Check that a pickle holds a model of a kind, as far as its content was read.

    Raises:
        UserError: it does not (code `wrong-kind`).
    """
    if content.keys is None:
        return
    problem = ""
    if kind == "embedding":
        check_embedding_tensors(content.shapes, name, embedded=content.embedded)
    elif kind == "hypernetwork" and not any(type(key) is int for key in content.keys):
        problem = "the file has no layers of a hypernetwork"
    elif content.embedded is not None and kind != "other":
        problem = f"the file is an embedding, not of kind {kind}"
    if problem:
        raise UserError(problem, location=name, code="wrong-kind")
    refuse_misfit(content.shapes, kind, name)


def _is_lora(names: list[str]) -> bool:
    parts = sum(1 for name in names if _LORA_PART.search(name))
    roots = sum(1 for name in names if _LORA_ROOT.match(name))
    has_unet = any(name.startswith((_UNET, "first_stage_model.")) for name in names)
    return not has_unet and (roots > 0 or parts * 3 >= len(names) > 0)


def _lora_base(shapes: Shapes, metadata: Mapping[str, str]) -> Base:
    if base := _context_base(shapes):
        return base
    if metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    if metadata.get("ss_v2", "") == "True":
        return "SD2"
    return "SDXL" if any(name.startswith("lora_te2_") for name in shapes) else ""


def _checkpoint_base(shapes: Shapes) -> Base:
    """Return what `guess_model_config_from_state_dict` finds; its default is SD1."""
    if f"{_UNET}x_embedder.proj.weight" in shapes:
        return "SD3"
    if "conditioner.embedders.1.model.ln_final.weight" in shapes:
        return "SDXL"
    if refiner := shapes.get("conditioner.embedders.0.model.ln_final.weight"):
        return (
            "SD2" if refiner[:1] == (1024,) else "SDXL refiner"
        )  # SD 2.1 Turbo has these names too
    if "embedder.model.ln_final.weight" in shapes or "cond_stage_model.model.ln_final.weight" in (
        shapes
    ):
        return "SD2"
    if any(name.startswith("cond_stage_model.") for name in shapes):
        return "SD1"
    return _context_base(shapes)


def _context_base(shapes: Shapes) -> Base:
    """Return the base model by the width of the text that cross attention reads."""
    for name, shape in shapes.items():
        if _CONTEXT.search(name) and len(shape) >= 2:
            return _BASE_BY_WIDTH.get(shape[1], "")
    return ""


def _vae_layout(names: list[str]) -> tuple[Layout] | None:
    if any(name.startswith(("decoder.up_blocks.", "decoder.mid_block.")) for name in names):
        return ("diffusers",)
    if any(name.startswith(("decoder.up.", "decoder.mid.")) for name in names):
        return ("",)
    if names and all(name.startswith("first_stage_model.") for name in names):
        return ("checkpoint",)
    return None


def _is_embedding(shapes: Shapes) -> bool:
    if set(shapes) == {"clip_g", "clip_l"}:
        return True
    return len(shapes) == 1 and next(iter(shapes)) in ("emb_params", "*", "string_to_param.*")


def _embedding_base(shapes: Shapes) -> Base:
    if "clip_g" in shapes:
        return "SDXL"
    width = next(iter(shapes.values()))[-1:]
    return _BASE_BY_WIDTH.get(width[0], "") if width else ""
