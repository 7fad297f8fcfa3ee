"""Judges the facts: one function a check, one table of all. Pure.

A check returns its verdicts, none where it does not apply. Codes, sentences and hints come from
`scripts.common.diagnostics.table`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.capability import carrier
from scripts.host.console import size
from scripts.host.doctor.doctor_facts import Disk, Facts, Mirror

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Args:
        check: its name.
        level: `fail` stops a build or a start, `warn` may do so later.
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


Check = Callable[[Facts], Iterator[Verdict]]


def judge(facts: Facts) -> tuple[Verdict, ...]:
    """Every verdict, in the table's order."""
    return tuple(verdict for check in CHECKS for verdict in check(facts))


def engine(facts: Facts) -> Iterator[Verdict]:
    """An engine answers."""
    if facts.engine:
        yield Verdict("engine", "ok", f"Docker {facts.engine}")
    else:
        yield Verdict("engine", "fail", _why(facts), "engine-missing")


def buildx(facts: Facts) -> Iterator[Verdict]:
    """It has a buildx that reports its progress as JSON."""
    if facts.buildx:
        yield Verdict("buildx", "ok", f"buildx {facts.buildx}")
    elif facts.engine:
        yield Verdict("buildx", "fail", _why(facts), "buildx-missing")


def disk(facts: Facts) -> Iterator[Verdict]:
    """This build fits, wherever it writes."""
    for place in facts.disks:
        yield _space(place)


def store(facts: Facts) -> Iterator[Verdict]:
    """The model store can be written to."""
    if facts.store_trouble:
        evidence = f"{facts.store}: {facts.store_trouble}"
        yield Verdict("store", "fail", evidence, "store-unwritable")
    else:
        yield Verdict("store", "ok", facts.store)


def packages(facts: Facts) -> Iterator[Verdict]:
    """The image's Python packages are locked."""
    if facts.has_packages:
        yield Verdict("packages", "ok", facts.packages)
    else:
        yield Verdict("packages", "fail", f"{facts.packages} is missing", "packages-unlocked")


def pins(facts: Facts) -> Iterator[Verdict]:
    """Two builds of this config use the same inputs."""
    if facts.unpinned:
        yield Verdict("pins", "warn", f"not pinned: {', '.join(facts.unpinned)}", "unpinned")
    else:
        yield Verdict("pins", "ok", "every input is pinned")


def mirrors(facts: Facts) -> Iterator[Verdict]:
    """Every outside source answers."""
    for mirror in facts.mirrors:
        yield _reached(mirror)


def gpu(facts: Facts) -> Iterator[Verdict]:
    """A GPU is here, which only proving the image needs."""
    if facts.accelerator == "cpu":
        return
    if not facts.driver or not facts.driver.gpus:
        evidence = facts.driver_trouble or "the driver lists no GPU"
        yield Verdict("gpu", "warn", evidence, "gpu-not-here")
        return
    each = (f"{card.name} ({_shown(card.capability)})" for card in facts.driver.gpus)
    yield Verdict("gpu", "ok", "; ".join(each))


def toolkit(facts: Facts) -> Iterator[Verdict]:
    """Containers can be given the GPU that is here."""
    if facts.accelerator == "cpu" or not facts.driver or not facts.engine:
        return
    if facts.has_toolkit:
        yield Verdict("toolkit", "ok", "containers can be given a GPU")
    else:
        evidence = "the engine knows neither the nvidia runtime nor its devices"
        yield Verdict("toolkit", "fail", evidence, "toolkit-missing")


def driver(facts: Facts) -> Iterator[Verdict]:
    """The driver speaks the CUDA of the image's torch.

    Within one major version an older driver runs newer code, but compiles no PTX:
    https://docs.nvidia.com/deploy/cuda-compatibility/ (minor version compatibility).
    """
    if not facts.driver or not facts.driver.cuda or not facts.torch or not facts.torch.cuda:
        return
    speaks, wanted = _version(facts.driver.cuda), _version(facts.torch.cuda)
    evidence = (
        f"driver {facts.driver.version} speaks CUDA {facts.driver.cuda}, "
        f"the image's torch {facts.torch.cuda}"
    )
    if speaks[0] < wanted[0]:
        yield Verdict("driver", "fail", evidence, "driver-too-old")
    elif speaks < wanted:
        yield Verdict("driver", "warn", evidence, "driver-older")
    else:
        yield Verdict("driver", "ok", evidence)


def code_for_gpu(facts: Facts) -> Iterator[Verdict]:
    """The image's torch carries code for the GPUs here and for those that the config promises."""
    if facts.accelerator == "cpu":
        return
    if not facts.torch:
        evidence = facts.torch_trouble or "not built yet, so not asked what its torch carries"
        yield Verdict("image", "warn", f"{facts.image} {evidence}".strip(), "image-unknown")
        return
    here = {card.capability for card in facts.driver.gpus} if facts.driver else set()
    found = {each: carrier(each, facts.torch.archs) for each in sorted(here | {*facts.targets})}
    shown = ", ".join(f"{_shown(each)} runs {arch or 'none'}" for each, arch in found.items())
    evidence = f"torch carries {' '.join(facts.torch.archs) or 'no GPU code'}: {shown}"
    if all(found.values()):
        yield Verdict("image", "ok", evidence)
    else:
        yield Verdict("image", "fail", evidence, "no-kernel-image")


CHECKS: Final[tuple[Check, ...]] = (
    *(engine, buildx, disk, store, packages, pins, mirrors),
    *(gpu, toolkit, driver, code_for_gpu),
)


def _why(facts: Facts) -> str:
    return facts.engine_trouble.message if facts.engine_trouble else "no reason given"


def _space(place: Disk) -> Verdict:
    total = place.needed + place.allowance
    evidence = f"{size(place.free)} free in {place.where}, this build takes about {size(total)}"
    if place.free < place.needed:
        return Verdict("disk", "fail", evidence, "disk-low")
    if place.free < total:
        return Verdict("disk", "warn", evidence, "disk-low")
    return Verdict("disk", "ok", evidence)


def _reached(mirror: Mirror) -> Verdict:
    name = f"mirrors.{mirror.setting}"
    if mirror.troubles:
        more = len(mirror.troubles) - 1
        evidence = f"{mirror.troubles[0]}{f' (and {more} more)' if more else ''}"
        return Verdict(name, "fail", evidence, _code(mirror))
    return Verdict(name, "ok", ", ".join(mirror.asked))


def _code(mirror: Mirror) -> str:
    if mirror.setting == "ca_bundle":
        return "ca-bundle-unusable"
    untrusted = diagnostics()["certificate"].search(mirror.troubles[0])
    return "certificate" if untrusted else "mirror-unreachable"


def _shown(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
