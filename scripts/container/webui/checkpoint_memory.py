"""Estimate the memory that checkpoints take, from the headers of their files.

The WebUI loads half-precision weights on a GPU, but for the VAE with `--no-half-vae`, and
single-precision ones on the processor (`load_model_weights` in `modules/sd_models.py`), whatever
the file holds. Alike in A1111 v1.9.3 and v1.10.1. The VAE, 0.08 billion weights, counts as one in
single precision, with or without that flag.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.common.diagnostics.error import UserError

if TYPE_CHECKING:
    from scripts.common.fetch.model_content import Base, Shapes

_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_MEMINFO: Final = Path("/proc/meminfo")
_HALF: Final = 2  # bytes of a weight
_SINGLE: Final = 4
_CPU_MEMORY: Final = 1_250_000_000  # beside the weights; measured with SD 1.5, A1111 v1.9.3: 5.5 GB
_CUDA_MEMORY: Final = 1_000_000_000  # beside the checkpoint, which passes through main memory
_EMA: Final = "model_ema."  # weights of training that the WebUI does not load
_VAE: Final = "first_stage_model."
_DRAWING: Final[dict[Base, int]] = {"SD1": 1_500_000_000, "SD2": 1_500_000_000}
_DRAWING_LARGE: Final = 4_000_000_000
"""Bytes of GPU memory beside the weights, for one image of the size that the model was made for.

Chosen, not measured, so that the outcome is that of A1111's own advice: 4 GB suffice for SD 1
(README.md), 12 GB for SDXL, and 8 GB need `--medvram-sdxl` (wiki, "Optimum SDXL Usage").
"""


@dataclass(frozen=True)
class CheckpointWeights:
    """Weights of a checkpoint that the WebUI loads.

    Args:
        base: base model; empty if its tensors do not show it.
        file_size: length of the file in bytes.
        model: number of weights outside of the VAE.
        vae: number of the VAE's weights.
    """

    base: Base
    file_size: int
    model: int
    vae: int = 0

    @property
    def single_size(self) -> int:
        """Return the bytes of all weights in single precision."""
        return _SINGLE * (self.model + self.vae)

    @property
    def mixed_size(self) -> int:
        """Return the bytes of all weights in half precision, the VAE's in single precision."""
        return _HALF * self.model + _SINGLE * self.vae


def read_weights(path: Path, file_size: int) -> CheckpointWeights:
    """Count a checkpoint's weights by its header.

    One without a readable header, such as a pickle, counts as a file of half-precision weights.

    Args:
        path: the file.
        file_size: its length in bytes.
    """
    shapes = _read_shapes(path)
    if not shapes:
        return CheckpointWeights("", file_size, file_size // _HALF)
    loaded = {name: prod(shape) for name, shape in shapes.items() if not name.startswith(_EMA)}
    vae = sum(count for name, count in loaded.items() if name.startswith(_VAE))
    return CheckpointWeights(_find_base(shapes), file_size, sum(loaded.values()) - vae, vae)


def read_base(path: Path) -> Base:
    """Return the base model of a checkpoint by its header, as in SDXL; empty where unknown."""
    return _find_base(_read_shapes(path))


def _read_shapes(path: Path) -> Shapes:
    """Return the shapes in a checkpoint's header; none without a readable one."""
    from scripts.common.fetch.file_format import check_safetensors, claims_safetensors

    if not claims_safetensors(path.name):
        return {}
    try:
        shapes, _, _ = check_safetensors(path)
    except (UserError, OSError):  # the check of the checkpoint reports it
        return {}
    return shapes


def _find_base(shapes: Shapes) -> Base:
    from scripts.common.fetch.model_content import describe

    return describe(shapes).base


def estimate_main_memory(accelerator: str, checkpoints: Sequence[CheckpointWeights]) -> int:
    """Return the main memory in bytes that serving takes.

    Args:
        accelerator: cuda or cpu.
        checkpoints: those that are loaded at once, largest first.
    """
    weights = estimate_resident_weights(accelerator, checkpoints)
    if accelerator == "cpu":
        return _CPU_MEMORY + weights
    return _CUDA_MEMORY + sum(each.file_size for each in checkpoints[:1]) + weights


def estimate_resident_weights(accelerator: str, checkpoints: Sequence[CheckpointWeights]) -> int:
    """Return the main memory in bytes that loaded weights take; arguments as above.

    With a GPU one checkpoint is there, and the others wait in main memory.
    """
    if accelerator == "cpu":
        return sum(each.single_size for each in checkpoints)
    return sum(each.mixed_size for each in checkpoints[1:])


def estimate_gpu_memory(checkpoint: CheckpointWeights) -> int:
    """Return the GPU memory in bytes that a checkpoint takes to draw one image of its own size."""
    return checkpoint.mixed_size + _DRAWING.get(checkpoint.base, _DRAWING_LARGE)


def saves_gpu_memory(flags: Sequence[str], base: Base) -> bool:
    """Return whether flags of the WebUI keep parts of a checkpoint out of the GPU's memory.

    Args:
        flags: those for small GPUs.
        base: base model of the checkpoint; --medvram-sdxl acts on SDXL only.
    """
    return any(flag != "--medvram-sdxl" or base.startswith("SDXL") for flag in flags)


def read_memory_limit() -> int:
    """Return the main memory in bytes that this container may use, or that the machine has."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _MEMORY_LIMITS:
        try:
            return min(int(path.read_text()), machine)
        except (OSError, ValueError):
            continue  # another version of cgroups, or "max"
    return machine


def read_available_memory() -> int:
    """Return the main memory in bytes that is free for this container, page cache included."""
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, read_memory_limit())
    return read_memory_limit()
