"""Facts about torch and xformers, as `torch_probe.py` prints them in the WebUI's Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.common.gpu.device import Device

PROBE: Final = Path(__file__).with_name("torch_probe.py")

Kernels = Mapping[str, Mapping[str, "float | str"]]
"""Largest relative difference from the CPU's result, or the error: by computation and data type."""


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
        devices: GPUs that torch sees; empty where it was not asked to compute.
        kernels: results of the computations that were asked for.
        error: why torch cannot be imported; all else is then empty.
        seconds: duration of the import.
    """

    version: str = ""
    cuda: str = ""
    cudnn: int = 0
    archs: tuple[str, ...] = ()
    xformers: str = ""
    xformers_torch: str = ""
    devices: tuple[Device, ...] = ()
    kernels: Kernels = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0


def parse_facts(output: str) -> TorchFacts:
    """Parse the output of the probe, whose last line counts: libraries print before it.

    Raises:
        ValueError: the probe has not printed its facts.
    """
    try:
        facts: dict[str, Any] = json.loads(output.splitlines()[-1])
        facts["archs"] = tuple(facts.get("archs", ()))
        facts["devices"] = tuple(
            Device(**{**device, "capability": tuple(device["capability"])})
            for device in facts.get("devices", ())
        )
        return TorchFacts(**facts)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"no facts about torch: {output[-200:]}") from error
