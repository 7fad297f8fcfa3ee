"""Choose the flags that depend on the checkpoint's kind and on the GPU's memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from scripts.common.concurrently import run_concurrently
from scripts.common.webui_flags import MEMORY_FLAGS, list_flags, select_builtin_flags
from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.checkpoint_memory import read_base

_SMALL_BASES: Final = ("SD1", "SD2")
_HALF_VAE_BASES: Final = (*_SMALL_BASES, "SD3")
_TIMEOUT: Final = 5.0  # seconds; a broken driver or volume must not stop the start here
_GIB: Final = 2**30
# Cards report up to 4 % less than their nominal size. For SDXL the WebUI's wiki
# (Optimum-SDXL-Usage) names --medvram-sdxl at 8 GB and nothing at 12 GB; at 4 to 6 GB its issue
# 12081 names --lowvram. For SD 1 and 2 (wiki, Troubleshooting) it is --medvram at 4 GB and
# --lowvram at 2 GB.
_SDXL_LOWVRAM: Final = 7.5 * _GIB
_SDXL_MEDVRAM: Final = 11.5 * _GIB
_LOWVRAM: Final = 3.0 * _GIB
_MEDVRAM: Final = 4.5 * _GIB


def choose_model_flags(settings: Settings, checkpoint: Path) -> tuple[str, ...]:
    """Return the flags for this checkpoint on this GPU; none on the CPU.

    What cannot be found out in time counts as unknown: the VAE then keeps full precision, and no
    memory is saved.
    """
    if settings.accelerator == "cpu":
        return ()
    reads: dict[str, Callable[[], str | int]] = {
        "base": partial(read_base, checkpoint),
        "memory": read_gpu_memory,
    }
    found = dict(run_concurrently(reads, len(reads), timeout=_TIMEOUT))
    base, memory = str(found.get("base", "")), int(str(found.get("memory", 0)))
    flags = [] if base in _HALF_VAE_BASES else select_builtin_flags(["sdxl"])
    given = {*list_flags(settings.further_flags), *settings.image_flags.remove}
    flags += select_memory_flags(settings, memory, base)
    chosen = tuple(flag for flag in flags if flag not in given)
    log(
        "model-flags",
        checkpoint=base or "unknown",
        gpu_memory=f"{memory / _GIB:.1f} GiB" if memory else "unknown",
        flags=" ".join(chosen) or "none",
    )
    return chosen


def select_memory_flags(settings: Settings, memory: int, base: str) -> list[str]:
    """Return the flags for small GPUs that the WebUI gets: those set by hand, or chosen ones.

    Other arguments are those of `choose_memory_flags`.
    """
    given = [flag for flag in list_flags(settings.further_flags) if flag in MEMORY_FLAGS]
    if given or settings.gpu_memory != "auto":
        return given
    return choose_memory_flags(memory, base)


def choose_memory_flags(memory: int, base: str) -> list[str]:
    """Return the flags that make a checkpoint fit into a GPU.

    `--medvram-sdxl` acts on checkpoints of SDXL only, so that it is also given beside a smaller one
    that jobs may replace by one of SDXL.

    Args:
        memory: of the GPU, bytes; 0 where it is unknown.
        base: base model of the checkpoint; empty where it is unknown.
    """
    if not memory or memory >= _SDXL_MEDVRAM:
        return []
    if base in _SMALL_BASES or not base:
        lowvram, medvram = _LOWVRAM, _MEDVRAM
    else:
        lowvram, medvram = _SDXL_LOWVRAM, 0.0  # --medvram-sdxl does the same
    if memory < lowvram:
        return ["--lowvram"]
    return ["--medvram"] if memory < medvram else ["--medvram-sdxl"]


def read_gpu_memory() -> int:
    """Return the bytes of the smallest GPU; 0 without a driver that says so."""
    from scripts.common.gpu.nvml import NvmlError, read_driver

    try:
        return min((gpu.total for gpu in read_driver().gpus), default=0)
    except NvmlError:
        return 0
