"""Check what the builder's machine lacks, each check from the facts that it needs."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scripts.common.checks.check import CheckResult
from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import Capability, Driver, TorchFacts, dotted, parse_capability
from scripts.common.gpu.judge import judge_code, judge_driver
from scripts.common.units import size
from scripts.host.build.inputs import BuildInputs
from scripts.host.build.lock_problem import find_lock_problem
from scripts.host.doctor import doctor_facts
from scripts.host.doctor.doctor_facts import Disk, EngineFacts, nearest
from scripts.host.doctor.outside_sources import check_sources


def run_checks(inputs: BuildInputs) -> tuple[CheckResult, ...]:
    """Run every check of a build that applies."""
    engine, client = doctor_facts.read_engine()
    bases = (inputs.download_base.reference, inputs.runtime_base.reference)
    local = doctor_facts.find_local(client, bases)
    needs_base = len(local) < len(bases)
    results = [
        check_engine(engine),
        *check_buildx(engine),
        *map(check_disk, doctor_facts.read_disks(inputs, engine, needs_base=needs_base)),
        check_store(inputs.store),
        check_packages(inputs.config.build.requirements, find_lock_problem(inputs)),
        check_pins(inputs.unpinned),
        *check_sources(inputs, local, engine.insecure_registries),
    ]
    if inputs.config.build.accelerator == "cuda":
        driver, reason = doctor_facts.read_driver()
        image = next(iter(doctor_facts.find_local(client, inputs.references)), "")
        torch = doctor_facts.read_image_torch(client, image)
        targets = map(parse_capability, inputs.config.smoke.targets)
        results += (
            check_gpu(driver, reason),
            *check_toolkit(driver, engine),
            *check_driver(driver, torch),
            check_image(image, torch, driver, targets),
        )
    return tuple(results)


def check_engine(engine: EngineFacts) -> CheckResult:
    """Expect an engine that answers."""
    if engine.version:
        return CheckResult("engine", "passed", f"{engine.version} at {engine.address}")
    return CheckResult("engine", "failed", engine.error, "engine-missing")


def check_buildx(engine: EngineFacts) -> Iterator[CheckResult]:
    """Expect a buildx that reports its progress as JSON."""
    if engine.buildx:
        yield CheckResult("buildx", "passed", f"buildx {engine.buildx}")
    elif engine.version:
        yield CheckResult("buildx", "failed", engine.error, "buildx-missing")


def check_disk(disk: Disk) -> CheckResult:
    """Expect space for this build."""
    total = disk.needed + disk.allowance
    evidence = f"{size(disk.free)} free in {disk.folder}, this build takes about {size(total)}"
    if disk.free < disk.needed:
        return CheckResult("disk", "failed", evidence, "disk-low")
    if disk.free < total:
        return CheckResult("disk", "warned", evidence, "disk-low")
    return CheckResult("disk", "passed", evidence)


def check_store(folder: Path) -> CheckResult:
    """Expect a writable model store, which need not exist yet."""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            return CheckResult("store", "passed", str(folder))
    except OSError as error:
        evidence = f"{folder}: {error.strerror or error}"
        return CheckResult("store", "failed", evidence, "store-unwritable")


def check_packages(lock: str, problem: str) -> CheckResult:
    """Expect a lock of the image's Python packages that is made for its WebUI."""
    if problem:
        return CheckResult("packages", "failed", problem, "packages-unlocked")
    return CheckResult("packages", "passed", lock)


def check_pins(unpinned: Sequence[str]) -> CheckResult:
    """Expect every input pinned, so that two builds use the same ones."""
    if unpinned:
        return CheckResult("pins", "warned", f"not pinned: {', '.join(unpinned)}", "unpinned")
    return CheckResult("pins", "passed", "every input is pinned")


def check_gpu(driver: Driver | None, reason: str) -> CheckResult:
    """Expect a GPU, which only the smoke test of the image needs."""
    if not driver or not driver.gpus:
        evidence = reason or "the driver lists no GPU"
        return CheckResult("gpu", "warned", evidence, "gpu-not-here")
    gpus = (f"{gpu.name} ({dotted(gpu.capability)})" for gpu in driver.gpus)
    return CheckResult("gpu", "passed", "; ".join(gpus))


def check_toolkit(driver: Driver | None, engine: EngineFacts) -> Iterator[CheckResult]:
    """Expect the engine to give this machine's GPU to containers."""
    if not driver or not driver.gpus or not engine.version:
        return
    if engine.has_toolkit:
        yield CheckResult("toolkit", "passed", "containers can be given a GPU")
    else:
        evidence = "the engine has neither the nvidia runtime nor its devices"
        yield CheckResult("toolkit", "failed", evidence, "toolkit-missing")


def check_driver(driver: Driver | None, torch: TorchFacts) -> Iterator[CheckResult]:
    """Expect a driver that supports the CUDA version of the image's torch."""
    if driver and torch.cuda:
        yield CheckResult("driver", *judge_driver(driver, torch.cuda))


def check_image(
    image: str, torch: TorchFacts, driver: Driver | None, targets: Iterable[Capability]
) -> CheckResult:
    """Expect the image's torch to contain code for the GPUs here and those in the config."""
    if torch.error:
        return CheckResult("image", "warned", f"{image} {torch.error}".strip(), "image-unknown")
    here = (gpu.capability for gpu in (driver.gpus if driver else ()))
    return CheckResult("image", *judge_code((*here, *targets), torch.archs))


def as_json(results: Sequence[CheckResult]) -> str:
    """Return the results as a JSON list of objects."""
    return json.dumps([result.to_json() for result in results], indent=2)


def refuse_failures(results: Sequence[CheckResult]) -> None:
    """Raise an error when a check failed.

    Raises:
        UserError: names the failed checks.
    """
    failed = [result.name for result in results if result.outcome == "failed"]
    if failed:
        raise UserError(f"not fit: {', '.join(failed)}", hint="see the lines above")
