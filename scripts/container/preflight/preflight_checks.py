"""Checks of the container's facts: one function a check, one table of all. Pure.

A check returns None where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from scripts.common.checks.check_result import CheckResult
from scripts.common.gpu import judge
from scripts.common.gpu.device import dotted
from scripts.common.gpu.judge import Judgement, failed, passed, warned
from scripts.common.gpu.torch_facts import TorchFacts
from scripts.container.preflight.preflight_facts import Facts

SHM_MINIMUM: Final = 64_000_000
"""Bytes; Docker's default is 64 MiB."""

Check = Callable[[Facts], "Judgement | None"]


def run_checks(facts: Facts) -> tuple[CheckResult, ...]:
    """Run every check that applies, in the table's order."""
    judged = ((name, check(facts)) for name, check in CHECKS.items())
    return tuple(CheckResult(name, *found) for name, found in judged if found)


def check_gpu(facts: Facts) -> Judgement | None:
    """Expect a GPU, unless the image draws on the CPU."""
    if facts.accelerator == "cpu":
        return None
    if not facts.driver or not facts.driver.gpus:
        return failed("gpu-not-visible", facts.driver_error or "the driver lists no GPU")
    return passed(
        "; ".join(
            f"{gpu.name}, {gpu.total / 2**30:.0f} GiB, {dotted(gpu.capability)}"
            for gpu in facts.driver.gpus
        )
    )


def check_torch(facts: Facts) -> Judgement | None:
    """Expect that torch can be imported, and was built with CUDA where the image needs it."""
    torch = facts.torch
    if not torch:
        return None
    if torch.error:
        return failed("torch-broken", torch.error)
    if facts.accelerator == "cuda" and not torch.cuda:
        return failed("torch-broken", f"torch {torch.version} was built without CUDA")
    return passed(f"torch {torch.version}" + (f", CUDA {torch.cuda}" if torch.cuda else ""))


def check_driver(facts: Facts) -> Judgement | None:
    """Expect a driver that supports torch's CUDA version."""
    torch = _importable(facts)
    if not facts.driver or not torch or not torch.cuda:
        return None
    return judge.judge_driver(facts.driver, torch.cuda)


def check_code(facts: Facts) -> Judgement | None:
    """Expect that torch carries code for every visible GPU."""
    torch = _importable(facts)
    if not facts.driver or not facts.driver.gpus or not torch or not torch.archs:
        return None
    return judge.judge_code((gpu.capability for gpu in facts.driver.gpus), torch.archs)


def check_cudnn(facts: Facts) -> Judgement | None:
    """Expect a cuDNN that is new enough."""
    torch = _importable(facts)
    return judge.judge_cudnn(torch.cudnn) if torch and facts.accelerator == "cuda" else None


def check_xformers(facts: Facts) -> Judgement | None:
    """Expect the xformers that was built for this torch."""
    torch = _importable(facts)
    return judge.judge_xformers(torch) if torch and facts.accelerator == "cuda" else None


def check_kernels(facts: Facts) -> Judgement | None:
    """Expect that what drawing consists of runs on the GPU."""
    torch = _importable(facts)
    return judge.judge_kernels(torch.kernels) if torch and torch.devices else None


def check_model(facts: Facts) -> Judgement:
    """Expect a whole checkpoint, as far as its header shows."""
    if facts.model_error:
        code = "model-missing" if facts.model_missing else "model-corrupt"
        return failed(code, f"{facts.model}: {facts.model_error}")
    return passed(facts.model)


def check_tcmalloc(facts: Facts) -> Judgement:
    """Expect an allocator that can be preloaded."""
    if not facts.tcmalloc:
        return warned("tcmalloc-missing", "no library that the linker would preload")
    return passed(facts.tcmalloc)


def check_volume(facts: Facts) -> Judgement:
    """Expect a writable network volume, where there is one."""
    if not facts.volume_there:
        return passed(f"{facts.volume} is not mounted; pip's cache ends with the container")
    if facts.volume_error:
        return warned("volume-unwritable", f"{facts.volume}: {facts.volume_error}")
    return passed(f"{facts.volume} can be written to")


def check_memory(facts: Facts) -> Judgement:
    """Expect enough main memory to load the checkpoint."""
    evidence = f"{facts.memory / 1e9:.1f} GB, needs about {facts.memory_needed / 1e9:.1f} GB"
    if facts.memory < facts.memory_needed:
        return warned("memory-low", evidence)
    return passed(evidence)


def check_shm(facts: Facts) -> Judgement:
    """Expect shared memory that is not smaller than Docker's default."""
    evidence = f"{facts.shm / 1e6:.0f} MB"
    return warned("shm-small", evidence) if facts.shm < SHM_MINIMUM else passed(evidence)


CHECKS: Final[dict[str, Check]] = {
    "gpu": check_gpu,
    "torch": check_torch,
    "driver": check_driver,
    "code-for-gpu": check_code,
    "cudnn": check_cudnn,
    "xformers": check_xformers,
    "kernels": check_kernels,
    "model": check_model,
    "tcmalloc": check_tcmalloc,
    "volume": check_volume,
    "memory": check_memory,
    "shm": check_shm,
}


def _importable(facts: Facts) -> TorchFacts | None:
    return facts.torch if facts.torch and not facts.torch.error else None
