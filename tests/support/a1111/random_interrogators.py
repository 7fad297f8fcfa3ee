"""Write interrogators of random weights, of the architectures that the real A1111 loads.

Run by the WebUI's Python in its folder, in an image of the real A1111:

    python random_interrogators.py FOLDER [NAME...]

FOLDER becomes a data folder (`models/BLIP/...`), with the Hub's cache in `hub` of it; the names are
those of the functions here. The loaders of BLIP and DeepDanbooru fix all sizes. CLIP is narrowed;
the `clip` package refuses any file but OpenAI's by its SHA-256, so the WebUI answers with `<error>`
unless `_MODELS` of `clip/clip.py` names the SHA-256 of this one.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch

REVISION = "86b5e0934494bd15c9632b12f734a8a67f723594"  # of bert-base-uncased in weights.ini
WORDS = 30522  # of its vocabulary
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of")
TAGS = 9176  # outputs of DeepDanbooru


def blip(folder: Path) -> None:
    """BLIP for captions: a ViT-B, and a BERT that attends to it."""
    sys.path.insert(0, "repositories/BLIP")
    sys.modules["fairscale.nn.checkpoint.checkpoint_activations"] = types.ModuleType("unused")
    sys.modules["fairscale.nn.checkpoint.checkpoint_activations"].checkpoint_wrapper = None
    from models.blip import create_vit
    from models.med import BertConfig, BertLMHeadModel

    config = BertConfig.from_json_file("repositories/BLIP/configs/med_config.json")
    encoder, config.encoder_width = create_vit("base", 384)
    decoder = BertLMHeadModel(config=config)
    for name, weights in decoder.named_parameters():
        if "crossattention" in name and name.endswith("weight") and weights.dim() == 2:
            weights.data *= 20  # what the image shows must change the words
    parts = {"visual_encoder": encoder, "text_decoder": decoder}
    tensors = {
        f"{part}.{name}": tensor.half() if tensor.is_floating_point() else tensor
        for part, network in parts.items()
        for name, tensor in network.state_dict().items()
    }
    _save(folder / "models/BLIP/model_base_caption_capfilt_large.pth", {"model": tensors})


def bert(folder: Path) -> None:
    """The tokenizer of BLIP's captions, with a made-up vocabulary."""
    cache = folder / "hub/models--bert-base-uncased"
    snapshot = cache / "snapshots" / REVISION
    snapshot.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL, *(f"word{number}" for number in range(WORDS - len(SPECIAL)))]
    (snapshot / "vocab.txt").write_text("\n".join(words) + "\n")
    (snapshot / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (snapshot / "config.json").write_text('{"model_type": "bert"}')
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs/main").write_text(REVISION)


def clip(folder: Path) -> None:
    """A narrowed CLIP ViT-L/14, traced as OpenAI's file is."""
    from clip.model import CLIP

    network = CLIP(
        embed_dim=32, image_resolution=224, vision_layers=1, vision_width=64,
        vision_patch_size=14, context_length=77, vocab_size=49408, transformer_width=64,
        transformer_heads=1, transformer_layers=1,
    ).eval()  # fmt: skip
    example = (torch.randn(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long))
    path = folder / "models/CLIP/ViT-L-14.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.trace(network, example).save(str(path))


def deepdanbooru(folder: Path) -> None:
    """DeepDanbooru, a ResNet with a list of tags."""
    sys.modules["modules.devices"] = types.ModuleType("unused")
    from modules.deepbooru_model import DeepDanbooruModel

    tensors = {name: tensor.half() for name, tensor in DeepDanbooruModel().state_dict().items()}
    tags = [f"tag_{number}" for number in range(TAGS)]
    path = folder / "models/torch_deepdanbooru/model-resnet_custom_v3.pt"
    _save(path, {**tensors, "tags": tags})


MAKERS: dict[str, Callable[[Path], None]] = {
    make.__name__: make for make in (blip, bert, clip, deepdanbooru)
}


def _save(path: Path, content: object) -> None:
    """Save without the zip members that A1111's check of pickles refuses (`modules/safe.py`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)


def main() -> None:
    """Write all interrogators, or those named."""
    folder, *names = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    for name in names or MAKERS:
        torch.manual_seed(1)
        MAKERS[name](Path(folder))
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>11}  {path.relative_to(folder)}")


if __name__ == "__main__":
    main()
