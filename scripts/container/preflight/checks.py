"""Judges the facts: one function a check, one table of all. Pure.

A check returns a verdict, or None where it does not apply. Codes, sentences and hints come from
`scripts.common.diagnostics.table`, which `invoke doctor` and the README share.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.capability import carrier
from scripts.container.preflight.preflight_facts import Facts, Torch

CUDNN_MINIMUM: Final = 9
SHM_MINIMUM: Final = 64_000_000
"""What Docker gives by default (64 MiB)."""


class Level(str, Enum):
    """How bad a finding is: `fail` makes serving pointless."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Args:
        check: its name.
        level: how bad it is.
        evidence: the facts that say so.
        code: the finding's name, empty when all is well.
    """

    check: str
    level: Level
    evidence: str
    code: str = ""

    @property
    def hint(self) -> str:
        """What to do next, empty when nothing is to be done."""
        return diagnostics()[self.code].hint if self.code else ""

    @property
    def sentence(self) -> str:
        """What is wrong, empty when nothing is."""
        return diagnostics()[self.code].message if self.code else ""


Check = Callable[[Facts], Verdict | None]


def judge(facts: Facts) -> tuple[Verdict, ...]:
    """Every check that applies, in the table's order."""
    return tuple(verdict for check in CHECKS if (verdict := check(facts)))


def gpu(facts: Facts) -> Verdict | None:
    """A GPU is there, unless the image draws on the CPU."""
    if facts.accelerator == "cpu":
        return None
    if not facts.driver or not facts.driver.gpus:
        return _fail("gpu", "gpu-not-visible", facts.driver_error or "the driver lists no GPU")
    each = [
        f"{card.name}, {card.total / 2**30:.0f} GiB, {card.capability[0]}.{card.capability[1]}"
        for card in facts.driver.gpus
    ]
    return _ok("gpu", "; ".join(each))


def driver(facts: Facts) -> Verdict | None:
    """The driver speaks the CUDA that torch was built for.

    Within one major version an older driver runs newer code, but compiles no PTX (NVIDIA's CUDA
    Compatibility guide, "minor version compatibility").
    """
    torch = _usable(facts)
    if not facts.driver or not torch or not torch.cuda:
        return None
    speaks, wanted = facts.driver.cuda, _version(torch.cuda)
    shown = f"driver {facts.driver.version} speaks CUDA {speaks[0]}.{speaks[1]}, torch {torch.cuda}"
    if speaks[0] < wanted[0]:
        return _fail("driver", "driver-too-old", shown)
    if speaks < wanted:
        return _warn("driver", "driver-older", shown)
    return _ok("driver", shown)


def torch_imports(facts: Facts) -> Verdict | None:
    """Torch can be imported, and was built with CUDA where there is a GPU to draw with."""
    torch = facts.torch
    if not torch:
        return None
    if torch.error:
        return _fail("torch", "torch-broken", torch.error)
    if facts.accelerator == "cuda" and not torch.cuda:
        return _fail("torch", "torch-broken", f"torch {torch.version} was built without CUDA")
    built_with = f", CUDA {torch.cuda}" if torch.cuda else ""
    return _ok("torch", f"torch {torch.version}{built_with}")


def code_for_gpu(facts: Facts) -> Verdict | None:
    """Torch carries code that every visible GPU runs."""
    torch = _usable(facts)
    if not facts.driver or not facts.driver.gpus or not torch or not torch.archs:
        return None
    found = {card.capability: carrier(card.capability, torch.archs) for card in facts.driver.gpus}
    shown = ", ".join(f"{x}.{y} runs {arch or 'none of it'}" for (x, y), arch in found.items())
    evidence = f"torch carries {' '.join(torch.archs)}: {shown}"
    if not all(found.values()):
        return _fail("code-for-gpu", "no-kernel-image", evidence)
    return _ok("code-for-gpu", evidence)


def cudnn(facts: Facts) -> Verdict | None:
    """CuDNN is 9 or newer. It counts 9.7.1 as 90701, and 8.9.2 as 8902."""
    torch = _usable(facts)
    if facts.accelerator == "cpu" or not torch:
        return None
    count = torch.cudnn
    major = count // 10_000 or count // 1000
    if major < CUDNN_MINIMUM:
        return _fail("cudnn", "cudnn-too-old", f"cuDNN {count or 'is missing'}")
    return _ok("cudnn", f"cuDNN {major}.{count % 10_000 // 100}.{count % 100}")


def xformers(facts: Facts) -> Verdict | None:
    """Xformers is there, and was built for this torch."""
    torch = _usable(facts)
    if facts.accelerator == "cpu" or not torch:
        return None
    if not torch.xformers:
        return _fail("xformers", "xformers-mismatch", "xformers is not installed")
    made_for, have = _public(torch.xformers_torch), _public(torch.version)
    shown = f"xformers {torch.xformers} for torch {made_for or 'unknown'}, torch is {have}"
    if made_for and made_for != have:
        return _fail("xformers", "xformers-mismatch", shown)
    return _ok("xformers", shown)


def kernels(facts: Facts) -> Verdict | None:
    """What drawing is made of really runs on the GPU."""
    torch = _usable(facts)
    if not torch or not torch.kernels:
        return None
    broken = {name: error for name, error in torch.kernels.items() if error}
    if not broken:
        return _ok("kernels", f"ran: {', '.join(torch.kernels)}")
    evidence = "; ".join(f"{name}: {error}" for name, error in broken.items())
    no_image = any("no kernel image" in error for error in broken.values())
    return _fail("kernels", "no-kernel-image" if no_image else "kernel-failed", evidence)


def allocator(facts: Facts) -> Verdict:
    """Tcmalloc can be preloaded."""
    if not facts.tcmalloc:
        return _warn("tcmalloc", "tcmalloc-missing", "no library that the linker would preload")
    return _ok("tcmalloc", facts.tcmalloc)


def model(facts: Facts) -> Verdict:
    """The checkpoint is there and whole, as far as its header tells."""
    if facts.model_error:
        missing = facts.model_error == "it is not there"
        code = "model-missing" if missing else "model-corrupt"
        return _fail("model", code, f"{facts.model}: {facts.model_error}")
    return _ok("model", facts.model)


def volume(facts: Facts) -> Verdict:
    """The network volume can be written to, where there is one."""
    if not facts.volume_there:
        return _ok("volume", f"{facts.volume} is not mounted; pip's cache ends with the container")
    if facts.volume_error:
        return _warn("volume", "volume-unwritable", f"{facts.volume}: {facts.volume_error}")
    return _ok("volume", f"{facts.volume} can be written to")


def memory(facts: Facts) -> Verdict:
    """Main memory is enough to load the checkpoint."""
    shown = f"{facts.memory / 1e9:.1f} GB, needs about {facts.memory_needed / 1e9:.1f} GB"
    if facts.memory < facts.memory_needed:
        return _warn("memory", "memory-low", shown)
    return _ok("memory", shown)


def shared_memory(facts: Facts) -> Verdict:
    """Shared memory is not smaller than Docker makes it."""
    shown = f"{facts.shm / 1e6:.0f} MB"
    return _warn("shm", "shm-small", shown) if facts.shm < SHM_MINIMUM else _ok("shm", shown)


CHECKS: Final[tuple[Check, ...]] = (
    *(gpu, torch_imports, driver, code_for_gpu, cudnn, xformers, kernels),
    *(model, allocator, volume, memory, shared_memory),
)


def _usable(facts: Facts) -> Torch | None:
    return facts.torch if facts.torch and not facts.torch.error else None


def _public(version: str) -> str:
    """The version without its local part: 2.7.0 of 2.7.0+cu128."""
    return version.partition("+")[0]


def _version(text: str) -> tuple[int, int]:
    """Major and minor of a version that says both."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _ok(check: str, evidence: str) -> Verdict:
    return Verdict(check, Level.OK, evidence)


def _warn(check: str, code: str, evidence: str) -> Verdict:
    return Verdict(check, Level.WARN, evidence, code)


def _fail(check: str, code: str, evidence: str) -> Verdict:
    return Verdict(check, Level.FAIL, evidence, code)
