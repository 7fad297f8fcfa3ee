"""Pictures by torch, from a checkpoint that was really read and a tokenizer that was really loaded.

The imports are those that an image must get right: torch, transformers, safetensors, Pillow, CLIP
and the four repositories.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import clip
import k_diffusion.sampling
import ldm.models.diffusion.ddpm
import models.blip
import sgm
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTokenizer

from modules.engines import Picture

IMPORTED = (clip, k_diffusion.sampling, ldm.models.diffusion.ddpm, models.blip, sgm)
TOKENIZER = "openai/clip-vit-large-patch14"


class TorchEngine:
    """Every number of the checkpoint goes into its key, and the key into every picture."""

    def __init__(self, device: str) -> None:
        # Upstream falls back too: flags say whether a GPU may be used, not that there is one.
        usable = device == "cuda" and torch.cuda.is_available()
        self.device = torch.device("cuda" if usable else "cpu")
        self.key = 0.0
        self.tokenizer = None
        _look_at_memory()

    def load(self, checkpoint: Path) -> None:
        """Read every tensor, then the tokenizer's files and the text model's configuration."""
        total = 0.0
        with safe_open(str(checkpoint), framework="pt", device="cpu") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping, it only has keys()
                total += float(tensors.get_tensor(name).double().nan_to_num().sum())
        CLIPTextConfig.from_pretrained(TOKENIZER)
        self.tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
        self.key = total

    @torch.inference_mode()
    def draw(self, picture: Picture, step: Callable[[int], None]) -> bytes:
        """Noise that each step makes smoother, by a convolution and an attention as a model has."""
        assert self.tokenizer is not None
        tokens = self.tokenizer(picture.prompt)["input_ids"]
        words = repr((picture.prompt, tokens, picture.seed, picture.start, self.key, picture.keys))
        seed = int.from_bytes(sha256(words.encode()).digest()[:7], "big")
        # Drawn on the CPU: the same seed gives the same noise on every device.
        noise = torch.randn(1, 3, picture.height, picture.width, generator=torch.manual_seed(seed))
        image = noise.to(self.device)
        kernel = torch.ones(3, 1, 3, 3, device=self.device) / 9
        for number in range(picture.steps):
            step(number)
            image = torch.nn.functional.conv2d(image, kernel, padding=1, groups=3)
            rows = image.flatten(2).mean(2, keepdim=True)
            image = (
                image
                + torch.nn.functional.scaled_dot_product_attention(rows, rows, rows)[..., None]
            )
        low, high = image.amin(), image.amax()
        image = (image - low) / (high - low).clamp(min=1e-6)
        if picture.start:
            image = (image + self._as_tensor(picture)) / 2
        if picture.flat:
            image = torch.zeros_like(image)
        return _png(Image.fromarray((image[0] * 255).byte().permute(1, 2, 0).cpu().numpy()))

    def _as_tensor(self, picture: Picture) -> torch.Tensor:
        start = _open(picture.start).resize((picture.width, picture.height))
        values = torch.frombuffer(bytearray(start.tobytes()), dtype=torch.uint8)
        shaped = values.reshape(1, picture.height, picture.width, 3).permute(0, 3, 1, 2)
        return shaped.to(self.device).float() / 255

    def upscale(self, image: bytes, factor: float, method: str, key: str) -> bytes:
        """By Pillow; weights turn some bits of each value over."""
        opened = _open(image)
        size = (round(opened.width * factor), round(opened.height * factor))
        enlarged = opened.resize(size, Image.Resampling[method.upper()])
        bits = int(key, 16) % 255 + 1 if key else 0
        return _png(enlarged.point(lambda value: value ^ bits))

    def cuda_memory(self) -> dict[str, object]:
        """As the real API counts it: the driver's and the allocator's view."""
        if self.device.type != "cuda":
            return {"error": "unavailable"}
        free, total = torch.cuda.mem_get_info()
        peak = torch.cuda.max_memory_allocated()
        return {
            "system": {"free": free, "used": total - free, "total": total},
            "allocated": {"current": torch.cuda.memory_allocated(), "peak": peak},
            "events": {"retries": 0, "oom": 0},
        }


def _look_at_memory() -> None:
    """What upstream's memory monitor does at start: without a GPU it complains, and goes on."""
    try:
        torch.cuda.mem_get_info()
    except Exception as error:
        print(f"Warning: caught exception '{error}', memory monitor disabled", flush=True)


def _open(image: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(image)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"cannot identify image file: {error}") from error


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
