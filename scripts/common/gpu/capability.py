"""Whether compiled GPU code runs on a device, by NVIDIA's rules rather than by equal names.

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
from typing import Final

_ARCH: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")

Capability = tuple[int, int]
"""Major and minor version of a device, (8, 9) for an RTX 6000 Ada."""


def capability(text: str) -> Capability:
    """Parse `8.9`.

    Raises:
        ValueError: it is not of that form.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no compute capability")
    return int(match[1]), int(match[2])


def carrier(device: Capability, archs: Iterable[str]) -> str:
    """Which of a library's architectures runs on a device; machine code before PTX.

    Args:
        device: its compute capability.
        archs: as `torch.cuda.get_arch_list()` gives them; unknown words are passed over.

    Returns:
        The best of them, empty when none runs.
    """
    usable = [(rank, arch) for arch in archs if (rank := _rank(device, arch))]
    return max(usable)[1] if usable else ""


def _rank(device: Capability, arch: str) -> tuple[bool, Capability] | None:
    """How well `arch` serves `device` (higher is better), None when it does not run there."""
    match = _ARCH.fullmatch(arch)
    if not match:
        return None
    kind, suffix, made_for = match[1], match[4], (int(match[2]), int(match[3]))
    if suffix == "a":
        runs = made_for == device
    elif kind == "sm" or suffix == "f":
        runs = made_for[0] == device[0] and made_for[1] <= device[1]
    else:
        runs = made_for <= device
    return (kind == "sm", made_for) if runs else None
