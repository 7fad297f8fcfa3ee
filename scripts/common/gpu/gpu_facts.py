"""Facts about NVIDIA devices, their driver, and torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from scripts.common.units import size

PROBE: Final = Path(__file__).with_name("torch_probe.py")
"""Script that prints `TorchFacts`, for the WebUI's Python."""

Capability = tuple[int, int]
"""Major and minor version of a device, (8, 9) for an RTX 6000 Ada."""

Kernels = Mapping[str, Mapping[str, float | str]]
"""Largest relative difference from the CPU's result, or the error: by computation, and by data type
and shape."""


@dataclass(frozen=True)
class Device:
    """A GPU as torch and the smoke report describe it.

    Args:
        name: such as NVIDIA RTX 6000 Ada Generation.
        memory: bytes.
        capability: compute capability.
        driver: version of the driver; empty where torch describes the device.
    """

    name: str
    memory: int
    capability: Capability
    driver: str = ""

    def __str__(self) -> str:
        """Return one line: `NVIDIA RTX 6000 Ada Generation, 51.5 GB, 8.9, driver 570.195.03`."""
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.name}, {size(self.memory)}, {dotted(self.capability)}{driver}"


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it.

    Args:
        name: such as NVIDIA RTX 6000 Ada Generation.
        capability: compute capability.
        total: bytes of memory.
        used: bytes of it in use, by all processes.
        utilisation: percent of the last sample period in which a kernel ran, None where unknown.
    """

    name: str
    capability: Capability
    total: int
    used: int = 0
    utilisation: int | None = None


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver and its GPUs.

    Args:
        version: such as 570.124.06.
        cuda: newest CUDA version that it supports, (12, 8).
        gpus: those that this machine or container may use.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """Return the GPUs as a report describes them."""
        return tuple(Device(gpu.name, gpu.total, gpu.capability, self.version) for gpu in self.gpus)


@dataclass(frozen=True)
class TorchFacts:
    """Facts about torch and xformers, and the results of computations.

    Args:
        version: such as 2.7.0+cu128.
        cuda: CUDA version it was built for, empty for a build without CUDA.
        cudnn: as torch counts it: 90701 for 9.7.1; 0 without.
        archs: what it carries machine code or PTX for.
        xformers: version, empty when not installed.
        xformers_torch: version of torch that xformers was built for, empty when unknown.
        xformers_cuda: CUDA version that xformers was built with, likewise.
        devices: GPUs that torch can use; empty where it was not asked to compute.
        cuda_error: why torch can use none of them, in its own text.
        kernels: results of the computations that were asked for.
        error: why torch cannot be imported; all else is then empty.
        seconds: duration of the import.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    version: str = ""
    cuda: str = ""
    cudnn: int = 0
    archs: tuple[str, ...] = ()
    xformers: str = ""
    xformers_torch: str = ""
    xformers_cuda: str = ""
    devices: tuple[Device, ...] = ()
    cuda_error: str = ""
    kernels: Kernels = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0


def parse_facts(output: str) -> TorchFacts:
    """Parse the output of the probe, whose last line counts: libraries print before it.

    Raises:
        ValueError: the probe has not printed its facts.
    """
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(TorchFacts).validate_json(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ValueError(f"no facts about torch: {output[-200:]}") from error


def parse_capability(text: str) -> Capability:
    """Parse `8.9`.

    Raises:
        ValueError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no compute capability")
    return int(match[1]), int(match[2])


def dotted(version: tuple[int, ...]) -> str:
    """Format a version: 8.9 for (8, 9)."""
    return ".".join(map(str, version))
