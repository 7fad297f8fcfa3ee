"""Pictures from the standard library alone."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from modules.engines import Picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class LightEngine:
    """Reads the checkpoint for its hash, draws noise."""

    def __init__(self) -> None:
        self.key = ""

    def load(self, checkpoint: Path) -> None:
        """Whole safetensors files only, judged by length."""
        content = checkpoint.read_bytes()
        if len(content) < 8 or int.from_bytes(content[:8], "little") > len(content) - 8:
            raise ValueError("Error while deserializing header: HeaderTooLarge")
        self.key = sha256(content).hexdigest()

    def draw(self, picture: Picture, step: Callable[[int], None]) -> bytes:
        """Noise from a generator seeded with everything that was asked for."""
        for number in range(picture.steps):
            step(number)
        if picture.start:
            _size(picture.start)
        words = (picture.prompt, picture.seed, picture.steps, picture.start, self.key, picture.keys)
        noise = random.Random(repr(words))  # noqa: S311 - a picture, not a secret
        count = picture.width * picture.height * 3
        return png(
            picture.width, picture.height, bytes(count) if picture.flat else noise.randbytes(count)
        )

    def upscale(self, image: bytes, factor: float, method: str, key: str) -> bytes:
        """Noise: only the size is right."""
        width, height = (round(side * factor) for side in _size(image))
        noise = random.Random(repr((image, method, key)))  # noqa: S311 - a picture, not a secret
        return png(width, height, noise.randbytes(width * height * 3))

    def cuda_memory(self) -> dict[str, object]:
        """There is none."""
        return {"error": "unavailable"}


def _size(image: bytes) -> tuple[int, int]:
    if not image.startswith(SIGNATURE) or len(image) < 24:
        raise ValueError("cannot identify image file")
    width, height = struct.unpack(">II", image[16:24])
    return width, height


def png(width: int, height: int, rgb: bytes) -> bytes:
    """A PNG of rows of red, green, blue (https://www.w3.org/TR/png/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = b"".join(b"\0" + rgb[y * width * 3 : (y + 1) * width * 3] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return SIGNATURE + parts
