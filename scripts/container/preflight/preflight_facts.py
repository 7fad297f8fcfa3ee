"""What the preflight knows about its machine: data only, gathered here and judged there."""

from __future__ import annotations

from dataclasses import dataclass, field

from scripts.common.gpu.capability import Capability
from scripts.common.gpu.nvml import Driver


@dataclass(frozen=True)
class Torch:
    """What the WebUI's Python says about torch.

    Args:
        version: such as 2.7.0+cu128.
        cuda: CUDA it was built for, empty for a build without.
        cudnn: as torch counts it: 90701 for 9.7.1; 0 without.
        archs: what it carries machine code or PTX for.
        xformers: version, empty when not installed.
        xformers_torch: version of torch that xformers was built for, empty when unknown.
        kernels: what was launched on the GPU and what went wrong, empty text when nothing did.
        error: why torch cannot be imported; all else is then empty.
        capability: of the first GPU, None where torch sees none.
        seconds: that the import took.
    """

    version: str = ""
    cuda: str = ""
    cudnn: int = 0
    archs: tuple[str, ...] = ()
    xformers: str = ""
    xformers_torch: str = ""
    kernels: dict[str, str] = field(default_factory=dict)
    error: str = ""
    capability: Capability | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Facts:
    """Everything that the checks judge. Sizes are in bytes.

    Args:
        accelerator: what the image draws with, cuda or cpu.
        driver: the NVIDIA driver, None where there is none.
        driver_error: why there is none.
        torch: None when it was not asked.
        tcmalloc: library that will be preloaded, empty when none can be.
        model: the checkpoint's path.
        model_error: what is wrong with it, empty when nothing is.
        volume: where the network volume is mounted.
        volume_error: why it cannot be written to, empty when it can.
        volume_there: whether it is mounted at all.
        memory: what the container may use.
        memory_needed: what serving is known to need.
        shm: size of /dev/shm.
    """

    accelerator: str
    driver: Driver | None
    driver_error: str
    torch: Torch | None
    tcmalloc: str
    model: str
    model_error: str
    volume: str
    volume_error: str
    volume_there: bool
    memory: int
    memory_needed: int
    shm: int
