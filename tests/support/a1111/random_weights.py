"""Write small models of random weights, of the architectures that the real A1111 loads.

Run by the WebUI's Python in an image of the real A1111, whose torch, spandrel and facexlib it uses:

    python random_weights.py FOLDER [NAME...]

FOLDER becomes a data folder (`models/ESRGAN/...`); the names are those of the functions here. Small
means: as small as the loader allows. Where it fixes the sizes (GFPGAN, facexlib), files are large.
Weights of both releases' loaders must be torch's older format: see `_save`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

CHECKPOINT = "/model.safetensors"
LORA_RANK = 4
WIDTH = 768  # of the prompt's vectors, for SD 1


def esrgan() -> dict[str, Any]:
    """ESRGAN: the trunk's width and length are read from the weights."""
    network = _architecture("ESRGAN", "RRDB").RRDBNet(num_filters=8, num_blocks=2)
    return {"models/ESRGAN/4x_Random.pth": network.state_dict()}


def realesrgan() -> dict[str, Any]:
    """Real-ESRGAN: ESRGAN's network, found by its file name only."""
    network = _architecture("ESRGAN", "RRDB").RRDBNet(num_filters=8, num_blocks=2)
    return {"models/RealESRGAN/RealESRGAN_x4plus.pth": {"params_ema": network.state_dict()}}


def swinir() -> dict[str, Any]:
    """SwinIR for real images: nearest neighbours, then convolutions."""
    sizes = {"depths": [2, 2], "embed_dim": 12, "num_heads": [2, 2], "window_size": 8}
    network = _architecture("SwinIR", "SwinIR").SwinIR(
        upscale=4, mlp_ratio=2, upsampler="nearest+conv", **sizes
    )
    return {"models/SwinIR/SwinIR 4x.pth": {"params_ema": network.state_dict()}}


def scunet() -> dict[str, Any]:
    """SCUNet, which removes noise and does not enlarge."""
    network = _architecture("SCUNet", "SCUNet").SCUNet(config=[1] * 7, dim=64)
    return {"models/ScuNET/ScuNET GAN.pth": network.state_dict()}


def dat() -> dict[str, Any]:
    """DAT."""
    sizes = {"embed_dim": 16, "depth": [3, 3], "num_heads": [2, 2], "split_size": [8, 16]}
    network = _architecture("DAT", "DAT").DAT(upscale=2, expansion_factor=2.0, **sizes)
    return {"models/DAT/2x_Random.pth": {"params": network.state_dict()}}


def gfpgan() -> dict[str, Any]:
    """GFPGAN: its loader fixes all sizes."""
    network = _architecture("GFPGAN", "gfpganv1_clean_arch").GFPGANv1Clean(
        out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None,
        fix_decoder=False, num_mlp=8, input_is_latent=True, different_w=True, narrow=1,
        sft_half=True,
    )  # fmt: skip
    return {"models/GFPGAN/GFPGANv1.4.pth": {"params_ema": network.state_dict()}}


def codeformer() -> dict[str, Any]:
    """CodeFormer: its loader reads only some sizes."""
    network = _architecture("CodeFormer", "codeformer").CodeFormer(
        dim_embd=512, n_head=8, n_layers=1, codebook_size=64
    )
    return {"models/Codeformer/codeformer-v0.1.0.pth": {"params_ema": network.state_dict()}}


def facexlib() -> dict[str, Any]:
    """Face detection and parsing; the detector takes the middle of any image for a face."""
    from facexlib.detection.retinaface import RetinaFace
    from facexlib.parsing.parsenet import ParseNet

    detector = RetinaFace(network_name="resnet50")
    for head in (*detector.ClassHead, *detector.BboxHead, *detector.LandmarkHead):
        torch.nn.init.zeros_(head.conv1x1.weight)
        torch.nn.init.zeros_(head.conv1x1.bias)
    for head in detector.ClassHead:  # two anchors, and for each how much it is nothing, and a face
        head.conv1x1.bias.data = torch.tensor([10.0, 0.0, 10.0, 0.0])
    # Of the three levels only that of the largest anchors finds some. Their boxes are 20 times as
    # large as the anchors, so that all overlap and one is left.
    detector.ClassHead[2].conv1x1.bias.data = torch.tensor([10.0, 0.0, 0.0, 10.0])
    detector.BboxHead[2].conv1x1.bias.data = torch.tensor([0.0, 0.0, 15.0, 15.0] * 2)
    eyes_nose_mouth = [-2.0, -2.0, 2.0, -2.0, 0.0, 0.0, -1.6, 2.0, 1.6, 2.0]
    detector.LandmarkHead[2].conv1x1.bias.data = torch.tensor(eyes_nose_mouth * 2)
    parser = ParseNet(in_size=512, out_size=512, parsing_ch=19)
    parser.out_mask_conv.conv2d.bias.data[1] = 100.0  # all is skin
    folder = "models/GFPGAN"
    return {
        f"{folder}/detection_Resnet50_Final.pth": detector.state_dict(),
        f"{folder}/parsing_parsenet.pth": parser.state_dict(),
    }


def lora() -> dict[str, Any]:
    """A LoRA of SD 1 in kohya's naming, for a layer of the UNet and one of the text model."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    text = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    tensors = {}
    for layer, narrow, wide in ((block, WIDTH, 320), (text, WIDTH, 3072)):
        tensors[f"{layer}.lora_down.weight"] = torch.randn(LORA_RANK, narrow)
        tensors[f"{layer}.lora_up.weight"] = torch.randn(wide, LORA_RANK) / 4
        tensors[f"{layer}.alpha"] = torch.tensor(float(LORA_RANK))
    return {"models/Lora/random-lora.safetensors": tensors}


def embedding() -> dict[str, Any]:
    """A textual inversion of two vectors."""
    return {"embeddings/random-words.safetensors": {"emb_params": torch.randn(2, WIDTH) / 50}}


def hypernetwork() -> dict[str, Any]:
    """A hypernetwork for the prompt's vectors: two networks, for keys and for values."""

    def network() -> dict[str, torch.Tensor]:
        shapes = {"linear.0": (2 * WIDTH, WIDTH), "linear.1": (WIDTH, 2 * WIDTH)}
        return {
            f"{layer}.{part}": torch.randn(shape if part == "weight" else shape[:1]) / 50
            for layer, shape in shapes.items()
            for part in ("weight", "bias")
        }

    content = {
        WIDTH: (network(), network()),
        "layer_structure": [1, 2, 1],
        "activation_func": "linear",
        "is_layer_norm": False,
        "weight_initialization": "Normal",
        "name": "random-hyper",
        "step": 1,
    }
    return {"models/hypernetworks/random-hyper.pt": content}


def vae() -> dict[str, Any]:
    """A VAE with the names and shapes of the checkpoint's own; its loader wants every tensor."""
    prefix, tensors = "first_stage_model.", {}
    with safe_open(CHECKPOINT, framework="pt") as checkpoint:
        for name in checkpoint.keys():  # noqa: SIM118 - no mapping, it only has keys()
            if name.startswith(prefix):
                tensor = checkpoint.get_tensor(name)
                noise = torch.randn(tensor.shape, dtype=torch.float32) / 100
                tensors[name.removeprefix(prefix)] = (tensor.float() + noise).half()
    return {"models/VAE/random.safetensors": tensors}


def vaeapprox() -> dict[str, Any]:
    """The decoder of live previews, which each job of SDXL loads (`modules/sd_vae_approx.py`)."""
    channels, kernels = (4, 8, 16, 32, 64, 32, 16, 8, 3), (7, 5, *[3] * 6)
    tensors = {}
    for number, kernel in enumerate(kernels):
        layer = torch.nn.Conv2d(channels[number], channels[number + 1], kernel)
        for part, tensor in layer.state_dict().items():
            tensors[f"conv{number + 1}.{part}"] = tensor
    return {"models/VAE-approx/vaeapprox-sdxl.pt": tensors}


MAKERS: dict[str, Callable[[], dict[str, Any]]] = {
    make.__name__: make
    for make in (
        *(esrgan, realesrgan, swinir, scunet, dat, gfpgan, codeformer, facexlib),
        *(lora, embedding, hypernetwork, vae, vaeapprox),
    )
}


def _architecture(name: str, module: str) -> Any:
    """Return the module with an architecture's network; newer releases hide it."""
    for folder in ("arch", "__arch"):
        try:
            return importlib.import_module(f"spandrel.architectures.{name}.{folder}.{module}")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(f"spandrel has no {name}")


def _save(path: Path, content: Any) -> None:
    """Save without the zip members that A1111's check of pickles refuses (`modules/safe.py`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, str(path))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=False)


def main() -> None:
    """Write all models, or those named."""
    folder, *names = sys.argv[1:]
    for name in names or MAKERS:
        torch.manual_seed(1)
        for place, content in MAKERS[name]().items():
            path = Path(folder, place)
            _save(path, content)
            print(f"{path.stat().st_size:>11}  {place}")


if __name__ == "__main__":
    main()
