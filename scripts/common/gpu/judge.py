"""Judges what the driver and torch say of the GPUs, and what they computed. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.common.gpu.capability import Capability, capability, carrier
from scripts.host.console import size

SMI: Final = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,compute_cap,driver_version",
    "--format=csv,noheader,nounits",
)
# The driver keeps a part of the memory that it counts; torch sees what CUDA may use.
MEMORY_TOLERANCE: Final = 0.05
LEFT_OVER: Final = 512 * 2**20
"""Bytes that jobs may leave behind: workspaces of cuDNN and cuBLAS."""
# Where the WebUI prefers xformers; on newer GPUs it takes torch's own attention. Source:
# SdOptimizationXformers.is_available in its modules/sd_hijack_optimizations.py.
_XFORMERS: Final = ((6, 0), (9, 0))


@dataclass(frozen=True)
class Device:
    """A GPU as one side sees it; memory in bytes, the driver only where that side tells it."""

    name: str
    memory: int
    capability: Capability
    driver: str = ""

    def __str__(self) -> str:
        """For a person: `NVIDIA RTX 6000 Ada Generation, 51.5 GB, 8.9, driver 570.195.03`."""
        major, minor = self.capability
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.name}, {size(self.memory)}, {major}.{minor}{driver}"


def parse_smi(text: str) -> tuple[Device, ...]:
    """The devices that `nvidia-smi` lists when asked with SMI."""
    rows = csv.reader(text.strip().splitlines(), skipinitialspace=True)
    return tuple(Device(row[0], int(row[1]) * 2**20, capability(row[2]), row[3]) for row in rows)


def disagreement(smi: Sequence[Device], torch: Sequence[Device]) -> str:
    """What driver and torch do not agree on, empty when they do."""
    if not smi:
        return "nvidia-smi lists no GPU"
    if len(smi) != len(torch):
        return f"nvidia-smi lists {len(smi)} GPUs, torch {len(torch)}"
    # The driver counts by bus, CUDA by speed.
    for one, other in zip(sorted(smi, key=_order), sorted(torch, key=_order), strict=True):
        if (one.name, one.capability) != (other.name, other.capability):
            return f"nvidia-smi says {one}, torch {other}"
        if abs(one.memory - other.memory) > MEMORY_TOLERANCE * one.memory:
            return f"{one.name}: nvidia-smi counts {one.memory} bytes, torch {other.memory}"
    return ""


def without_code(devices: Sequence[Device], archs: Sequence[str]) -> tuple[str, ...]:
    """Names of the devices that run none of a library's code."""
    return tuple(device.name for device in devices if not carrier(device.capability, archs))


def wrong(errors: Mapping[str, float | str], tolerance: float) -> tuple[str, ...]:
    """The computations that failed, or are further from the CPU's answer than tolerated.

    Args:
        errors: largest relative difference by name, or a text where it raised.
        tolerance: of the relative difference; half precision keeps about three digits.
    """
    return tuple(
        f"{name}: {error}"
        for name, error in errors.items()
        if isinstance(error, str) or not error <= tolerance  # so that NaN is wrong, too
    )


def attention(device: Device) -> str:
    """What the worker's flags make the WebUI choose on a device: xformers, or torch's own sdp."""
    oldest, newest = _XFORMERS
    return "xformers" if oldest <= device.capability <= newest else "sdp"


def kept(before: int, after: int) -> str:
    """What is wrong with the GPU memory in use after the jobs, empty when nothing is."""
    more = after - before
    return f"{more} bytes more than before the jobs" if more > LEFT_OVER else ""


def _order(device: Device) -> tuple[str, Capability, int]:
    return device.name, device.capability, device.memory
