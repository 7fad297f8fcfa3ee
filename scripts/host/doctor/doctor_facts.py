"""What the doctor knows about the builder's machine: data only, gathered here and judged there."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.device import Capability, Driver
from scripts.common.gpu.torch_facts import TorchFacts


@dataclass(frozen=True)
class Disk:
    """Space at one place, in bytes.

    Args:
        where: the folder.
        free: what is left there.
        needed: what this build is known to put there.
        allowance: what it is assumed to need besides.
    """

    where: str
    free: int
    needed: int
    allowance: int = 0


@dataclass(frozen=True)
class Mirror:
    """The outside sources below one setting of `mirrors`.

    Args:
        setting: its key; `base images` for registries.
        asked: the addresses that were tried.
        troubles: what was wrong, one line an address that does not serve.
    """

    setting: str
    asked: tuple[str, ...]
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything that the checks judge.

    Args:
        accelerator: what the image draws with, cuda or cpu.
        targets: compute capabilities that the config promises.
        engine: its version; empty where none answers.
        buildx: its version; empty where there is none, or one too old.
        engine_trouble: why either is missing.
        disks: places that the build writes to.
        driver: None where there is none.
        driver_trouble: why there is none.
        has_toolkit: whether containers can be given a GPU.
        image: reference of the built image; empty before the first build.
        torch: what that image carries; None where it was not asked.
        torch_trouble: why it did not tell.
        mirrors: the outside sources.
        unpinned: inputs that nothing pins.
        packages: the lock of the image's Python packages.
        has_packages: whether that is there.
        store: the model store.
        store_trouble: why it cannot be written to; empty when it can.
    """

    accelerator: str
    targets: tuple[Capability, ...]
    engine: str
    buildx: str
    engine_trouble: UserError | None
    disks: tuple[Disk, ...]
    driver: Driver | None
    driver_trouble: str
    has_toolkit: bool
    image: str
    torch: TorchFacts | None
    torch_trouble: str
    mirrors: tuple[Mirror, ...]
    unpinned: tuple[str, ...]
    packages: str
    has_packages: bool
    store: str
    store_trouble: str
