"""NVIDIA devices and drivers, and the rules by which compiled GPU code runs on a device.

A cubin (`sm_XY`) runs on devices of its own major version and the same or a later minor one; PTX
(`compute_XY`) is compiled by the driver for that device or any newer one. So an RTX 6000 Ada (8.9)
runs a wheel that lists only `sm_80` and `sm_86`.

Source: https://docs.nvidia.com/cuda/ada-compatibility-guide/ (application compatibility), and for
the suffixes `a` (that device only) and `f` (its family) the CUDA C++ Programming Guide, section
"Compute capabilities", feature sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scripts.common.units import size

_ARCH: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")

Capability = tuple[int, int]
"""Major and minor version of a device, (8, 9) for an RTX 6000 Ada."""


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


def best_arch(device: Capability, archs: Iterable[str]) -> str:
    """Choose the architecture whose code a device runs; machine code before PTX.

    Args:
        device: its compute capability.
        archs: of a library, as `torch.cuda.get_arch_list()` lists them; unknown ones are ignored.

    Returns:
        The architecture; empty when the device runs none of them.
    """
    usable = [(rank, arch) for arch in archs if (rank := _rank(device, arch))]
    return max(usable)[1] if usable else ""


def _rank(device: Capability, arch: str) -> tuple[bool, Capability] | None:
    """Rank an architecture for a device, higher is better; None when it does not run there."""
    match = _ARCH.fullmatch(arch)
    if not match:
        return None
    kind, suffix, target = match[1], match[4], (int(match[2]), int(match[3]))
    if suffix == "a":
        runs = target == device
    elif kind == "sm" or suffix == "f":
        runs = target[0] == device[0] and target[1] <= device[1]
    else:
        runs = target <= device
    return (kind == "sm", target) if runs else None
