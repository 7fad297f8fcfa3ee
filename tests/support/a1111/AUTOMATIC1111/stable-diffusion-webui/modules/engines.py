"""What draws: with torch as in an image, or light for tests outside one. Never the one by accident
for the other: only `STANDIN_TORCH=0` makes it light.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modules import paths


@dataclass(frozen=True)
class Picture:
    """One picture to draw.

    Args:
        start: the PNG or JPEG to begin from, empty for none.
        keys: hashes of the models that it is drawn with, besides the checkpoint.
    """

    prompt: str
    seed: int
    width: int
    height: int
    steps: int
    start: bytes = b""
    flat: bool = False
    keys: tuple[str, ...] = ()


class Engine(Protocol):
    """Loads a checkpoint and draws with it."""

    def load(self, checkpoint: Path) -> None:
        """Read the checkpoint and what it needs from the Hub cache; raises what goes wrong."""

    def draw(self, picture: Picture, step: Callable[[int], None]) -> bytes:
        """A PNG that depends on picture and checkpoint only; calls `step` before each step."""

    def upscale(self, image: bytes, factor: float, method: str, key: str) -> bytes:
        """The picture, enlarged, as PNG; ValueError when it is none.

        Args:
            image: the picture.
            factor: by which it grows.
            method: `lanczos` or `nearest`.
            key: hash of an upscaler's weights, which the picture depends on; empty without.
        """

    def cuda_memory(self) -> dict[str, object]:
        """The `cuda` part of /sdapi/v1/memory."""


def make(flags: argparse.Namespace) -> Engine:
    """The engine of this process, with everything slow imported."""
    if paths.light():
        from modules.light_engine import LightEngine

        return LightEngine()
    from modules.torch_engine import TorchEngine

    return TorchEngine("cpu" if "all" in flags.use_cpu else "cuda")
