"""Checks of the builder's machine: one function a check, one table of all. Pure.

A check yields its results, none where it does not apply.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from scripts.common.checks.check_result import CheckResult
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.device import Gpu, dotted
from scripts.common.gpu.judge import judge_code, judge_driver
from scripts.host.console import size
from scripts.host.doctor.doctor_facts import Disk, Facts, Mirror

Check = Callable[[Facts], Iterator[CheckResult]]


def run_checks(facts: Facts) -> tuple[CheckResult, ...]:
    """Run every check, in the table's order."""
    return tuple(result for check in CHECKS for result in check(facts))


def engine(facts: Facts) -> Iterator[CheckResult]:
    """An engine answers."""
    if facts.engine:
        yield CheckResult("engine", "passed", f"Docker {facts.engine}")
    else:
        yield CheckResult("engine", "failed", _why(facts), "engine-missing")


def buildx(facts: Facts) -> Iterator[CheckResult]:
    """It has a buildx that reports its progress as JSON."""
    if facts.buildx:
        yield CheckResult("buildx", "passed", f"buildx {facts.buildx}")
    elif facts.engine:
        yield CheckResult("buildx", "failed", _why(facts), "buildx-missing")


def disk(facts: Facts) -> Iterator[CheckResult]:
    """This build fits, wherever it writes."""
    for place in facts.disks:
        yield _space(place)


def store(facts: Facts) -> Iterator[CheckResult]:
    """The model store can be written to."""
    if facts.store_trouble:
        evidence = f"{facts.store}: {facts.store_trouble}"
        yield CheckResult("store", "failed", evidence, "store-unwritable")
    else:
        yield CheckResult("store", "passed", facts.store)


def packages(facts: Facts) -> Iterator[CheckResult]:
    """The image's Python packages are locked."""
    if facts.has_packages:
        yield CheckResult("packages", "passed", facts.packages)
    else:
        yield CheckResult("packages", "failed", f"{facts.packages} is missing", "packages-unlocked")


def pins(facts: Facts) -> Iterator[CheckResult]:
    """Two builds of this config use the same inputs."""
    if facts.unpinned:
        yield CheckResult("pins", "warned", f"not pinned: {', '.join(facts.unpinned)}", "unpinned")
    else:
        yield CheckResult("pins", "passed", "every input is pinned")


def mirrors(facts: Facts) -> Iterator[CheckResult]:
    """Every outside source answers."""
    for mirror in facts.mirrors:
        yield _reached(mirror)


def gpu(facts: Facts) -> Iterator[CheckResult]:
    """A GPU is here, which only proving the image needs."""
    if facts.accelerator == "cpu":
        return
    gpus = _gpus(facts)
    if not gpus:
        evidence = facts.driver_trouble or "the driver lists no GPU"
        yield CheckResult("gpu", "warned", evidence, "gpu-not-here")
        return
    each = (f"{gpu.name} ({dotted(gpu.capability)})" for gpu in gpus)
    yield CheckResult("gpu", "passed", "; ".join(each))


def toolkit(facts: Facts) -> Iterator[CheckResult]:
    """Containers can be given the GPU that is here."""
    if facts.accelerator == "cpu" or not _gpus(facts) or not facts.engine:
        return
    if facts.has_toolkit:
        yield CheckResult("toolkit", "passed", "containers can be given a GPU")
    else:
        evidence = "the engine knows neither the nvidia runtime nor its devices"
        yield CheckResult("toolkit", "failed", evidence, "toolkit-missing")


def driver(facts: Facts) -> Iterator[CheckResult]:
    """Expect a driver that supports the CUDA version of the image's torch."""
    if facts.driver and facts.torch and facts.torch.cuda:
        yield CheckResult("driver", *judge_driver(facts.driver, facts.torch.cuda))


def code_for_gpu(facts: Facts) -> Iterator[CheckResult]:
    """Expect the image's torch to carry code for the GPUs here and those that the config names."""
    if facts.accelerator == "cpu":
        return
    if not facts.torch:
        evidence = facts.torch_trouble or "not built yet, so not asked what its torch carries"
        yield CheckResult("image", "warned", f"{facts.image} {evidence}".strip(), "image-unknown")
        return
    here = (gpu.capability for gpu in _gpus(facts))
    yield CheckResult("image", *judge_code((*here, *facts.targets), facts.torch.archs))


CHECKS: Final[tuple[Check, ...]] = (
    *(engine, buildx, disk, store, packages, pins, mirrors),
    *(gpu, toolkit, driver, code_for_gpu),
)


def as_json(results: Sequence[CheckResult]) -> str:
    """Return the results as a JSON list of objects."""
    return json.dumps([result.to_json() for result in results], indent=2)


def refuse_failures(results: Sequence[CheckResult]) -> None:
    """Fail when a check did.

    Raises:
        UserError: it names them.
    """
    failed = [result.name for result in results if result.outcome == "failed"]
    if failed:
        raise UserError(f"not fit: {', '.join(failed)}", hint="see the lines above")


def _gpus(facts: Facts) -> tuple[Gpu, ...]:
    return facts.driver.gpus if facts.driver else ()


def _why(facts: Facts) -> str:
    return facts.engine_trouble.message if facts.engine_trouble else "no reason given"


def _space(place: Disk) -> CheckResult:
    total = place.needed + place.allowance
    evidence = f"{size(place.free)} free in {place.where}, this build takes about {size(total)}"
    if place.free < place.needed:
        return CheckResult("disk", "failed", evidence, "disk-low")
    if place.free < total:
        return CheckResult("disk", "warned", evidence, "disk-low")
    return CheckResult("disk", "passed", evidence)


def _reached(mirror: Mirror) -> CheckResult:
    name = f"mirrors.{mirror.setting}"
    if mirror.troubles:
        more = len(mirror.troubles) - 1
        evidence = f"{mirror.troubles[0]}{f' (and {more} more)' if more else ''}"
        return CheckResult(name, "failed", evidence, _code(mirror))
    return CheckResult(name, "passed", ", ".join(mirror.asked))


def _code(mirror: Mirror) -> str:
    if mirror.setting == "ca_bundle":
        return "ca-bundle-unusable"
    untrusted = diagnostics()["certificate"].search(mirror.troubles[0])
    return "certificate" if untrusted else "mirror-unreachable"
