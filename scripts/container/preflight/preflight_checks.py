"""Check this container: `python -m scripts.container preflight [--json | --log]`.

Prints a table, or JSON; with `--log` a log line for each result that is not passed, as the
supervisor wants it. Exit code 1 when a check failed, so that serving is pointless.

A check is a pure function of the facts and a row of `CHECKS`; it returns None where it does not
apply.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Final

from scripts.common.checks.check import CheckResult, format_results
from scripts.common.gpu import judge
from scripts.common.gpu.gpu_facts import dotted
from scripts.common.gpu.judge import Judgement, conclude
from scripts.container.log import log
from scripts.container.preflight.preflight_facts import Facts, gather_facts
from scripts.container.settings import Settings

SHM_MINIMUM: Final = 64_000_000
"""Bytes; Docker's default is 64 MiB."""

Check = Callable[[Facts], Judgement | None]


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Run every check and print the results.

    Args:
        settings: of the worker.
        arguments: of the command.
    """
    parser = argparse.ArgumentParser(prog="preflight", description="Check this container.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--log", action="store_true", help="write a log line for each finding")
    options = parser.parse_args(arguments)

    started = time.monotonic()
    facts = gather_facts(settings)
    results = run_checks(facts)
    is_fit = all(result.outcome != "failed" for result in results)
    seconds = time.monotonic() - started
    if options.json:
        verdicts = [result.to_json() for result in results]
        report = {"passed": is_fit, "seconds": seconds, "verdicts": verdicts}
        print(json.dumps({**report, "facts": facts.to_json()}, indent=2))
    elif options.log:
        _write_log(results, seconds)
    else:
        print(format_results(results))
    return 0 if is_fit else 1


def _write_log(results: Sequence[CheckResult], seconds: float) -> None:
    findings = [result for result in results if result.code]
    for result in findings:
        log(
            "preflight",
            level="error" if result.outcome == "failed" else "warning",
            code=result.code,
            found=result.evidence,
            hint=result.hint,
        )
    log("preflight-done", checks=len(results), findings=len(findings), seconds=seconds)


def run_checks(facts: Facts) -> tuple[CheckResult, ...]:
    """Run every check that applies, in the table's order."""
    judged = ((name, check(facts)) for name, check in CHECKS.items())
    return tuple(CheckResult(name, *found) for name, found in judged if found)


def check_gpu(facts: Facts) -> Judgement | None:
    """Expect a GPU, unless the image draws on the CPU."""
    if facts.accelerator == "cpu":
        return None
    gpus = facts.driver.gpus if facts.driver else ()
    found = "; ".join(
        f"{gpu.name}, {gpu.total / 2**30:.0f} GiB, {dotted(gpu.capability)}" for gpu in gpus
    )
    evidence = found or facts.driver_error or "the driver lists no GPU"
    return conclude(evidence, "" if found else "gpu-not-visible")


def check_torch(facts: Facts) -> Judgement | None:
    """Expect that torch can be imported, and was built with CUDA where the image needs it."""
    torch = facts.torch
    if not torch:
        return None
    if torch.error or not torch.cuda:
        evidence = torch.error or f"torch {torch.version} was built without CUDA"
        return conclude(evidence, "torch-broken")
    return conclude(f"torch {torch.version}, CUDA {torch.cuda}")


def check_devices(facts: Facts) -> Judgement | None:
    """Expect that torch can use the GPUs that the driver lists."""
    torch = facts.torch
    if not facts.driver or not facts.driver.gpus or not torch or torch.error or not torch.cuda:
        return None
    return judge.judge_use(facts.driver.devices, torch)


def check_driver(facts: Facts) -> Judgement | None:
    """Expect a driver that supports torch's CUDA version."""
    if not facts.driver or not facts.torch or not facts.torch.cuda:
        return None
    return judge.judge_driver(facts.driver, facts.torch.cuda)


def check_code(facts: Facts) -> Judgement | None:
    """Expect that torch carries code for every visible GPU."""
    gpus = facts.driver.gpus if facts.driver else ()
    if not gpus or not facts.torch or not facts.torch.archs:
        return None
    return judge.judge_code((gpu.capability for gpu in gpus), facts.torch.archs)


def check_cudnn(facts: Facts) -> Judgement | None:
    """Expect a cuDNN that is new enough."""
    torch = facts.torch
    return judge.judge_cudnn(torch.cudnn) if torch and not torch.error else None


def check_xformers(facts: Facts) -> Judgement | None:
    """Expect the xformers that was built for this torch."""
    torch = facts.torch
    return judge.judge_xformers(torch) if torch and not torch.error else None


def check_kernels(facts: Facts) -> Judgement | None:
    """Expect that what drawing consists of runs on the GPU, where torch can use one."""
    torch = facts.torch
    return judge.judge_kernels(torch.kernels) if torch and torch.devices else None


def check_model(facts: Facts) -> Judgement:
    """Expect a whole checkpoint, as far as its header shows."""
    if not facts.model_error:
        return conclude(f"{facts.model}{facts.model_base and f', {facts.model_base}'}")
    code = "model-missing" if facts.model_missing else "model-corrupt"
    return conclude(f"{facts.model}: {facts.model_error}", code)


def check_models(facts: Facts) -> Judgement:
    """Expect that every model that was found can be read, is linked and is what it should be."""
    counts = ", ".join(f"{count} {kind}" for kind, count in facts.models.items()) or "none"
    if facts.models_shadowed:
        counts += f"; {facts.models_shadowed} shadowed"
    if facts.model_problems:
        return conclude("; ".join([counts, *facts.model_problems]), "models-unseen", "warned")
    return conclude(counts)


def check_previews(facts: Facts) -> Judgement | None:
    """Expect the weights that each job loads for live previews, where the checkpoint needs some."""
    if not facts.previews_missing:
        return None
    evidence = f"{facts.model_base}: {facts.previews_missing} is not there"
    return conclude(evidence, "previews-missing", "warned")


def check_tcmalloc(facts: Facts) -> Judgement:
    """Expect an allocator that can be preloaded."""
    if facts.tcmalloc:
        return conclude(facts.tcmalloc)
    return conclude("no library that the linker would preload", "tcmalloc-missing", "warned")


def check_volume(facts: Facts) -> Judgement:
    """Expect a writable network volume, where there is one."""
    if not facts.volume_there:
        return conclude(f"{facts.volume} is not mounted; pip's cache ends with the container")
    if facts.volume_error:
        return conclude(f"{facts.volume}: {facts.volume_error}", "volume-unwritable", "warned")
    return conclude(f"{facts.volume} can be written to")


def check_memory(facts: Facts) -> Judgement:
    """Expect enough main memory for the checkpoints that may be loaded at once.

    Less than their weights take ends in a kill; what else is needed is an estimate.
    """
    evidence = f"{facts.memory / 1e9:.1f} GB, needs about {facts.memory_needed / 1e9:.1f} GB"
    if len(facts.checkpoint_sizes) > 1:
        evidence += f" for {len(facts.checkpoint_sizes)} checkpoints"
    code = "memory-low" if facts.memory < facts.memory_needed else ""
    return conclude(evidence, code, "failed" if facts.memory < facts.memory_weights else "warned")


def check_gpu_memory(facts: Facts) -> Judgement | None:
    """Expect that the checkpoint, and one image of its own size, fit into the GPU's memory.

    With flags such as --medvram it takes less, which is not judged.
    """
    gpus = facts.driver.gpus if facts.driver else ()
    if facts.accelerator == "cpu" or not gpus or not facts.gpu_memory_needed:
        return None
    total, weights = min(gpu.total for gpu in gpus), facts.gpu_weights
    evidence = (
        f"{total / 1e9:.1f} GB, needs about {facts.gpu_memory_needed / 1e9:.1f} GB,"
        f" {weights / 1e9:.1f} GB of it for weights"
    )
    if total >= facts.gpu_memory_needed:
        return conclude(evidence)
    return conclude(evidence, "gpu-memory-low", "failed" if total < weights else "warned")


def check_shm(facts: Facts) -> Judgement:
    """Expect shared memory that is not smaller than Docker's default."""
    code = "shm-small" if facts.shm < SHM_MINIMUM else ""
    return conclude(f"{facts.shm / 1e6:.0f} MB", code, "warned")


CHECKS: Final[dict[str, Check]] = {
    "gpu": check_gpu,
    "torch": check_torch,
    "devices": check_devices,
    "driver": check_driver,
    "code-for-gpu": check_code,
    "cudnn": check_cudnn,
    "xformers": check_xformers,
    "kernels": check_kernels,
    "model": check_model,
    "models": check_models,
    "previews": check_previews,
    "tcmalloc": check_tcmalloc,
    "volume": check_volume,
    "memory": check_memory,
    "gpu-memory": check_gpu_memory,
    "shm": check_shm,
}
