"""Read facts about the builder's machine; nothing here judges them."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from docker import DockerClient

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import PROBE, Driver, TorchFacts, parse_facts
from scripts.common.gpu.nvml import parse_driver
from scripts.common.run import last_line, run_program
from scripts.host.build.inputs import BuildInputs
from scripts.host.config.load import ROOT
from scripts.host.engine.client import client, docker_errors, find_address, probe
from scripts.host.engine.containers import container_output
from scripts.host.models.store import Store

# What an image of the usual recipe has over its base: 1.99 GB, measured with A1111 v1.9.3.
_PACKAGES: Final = 2_000_000_000
# Assumed for a base image that the engine does not have yet, on the safe side and unmeasured.
_BASE_ALLOWANCE: Final = 10_000_000_000
_TORCH_TIMEOUT: Final = 120  # seconds; a cold page cache makes importing torch slow
_DRIVER_TIMEOUT: Final = 30.0  # seconds; waking sleeping GPUs takes some


@dataclass(frozen=True)
class EngineFacts:
    """The Docker engine and its buildx.

    Args:
        version: empty where no engine answers.
        buildx: its version; empty where there is none, or one too old.
        error: why either is missing.
        info: what the engine reports of itself, as `docker info` shows it.
        address: where it answers.
    """

    version: str = ""
    buildx: str = ""
    error: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @property
    def has_toolkit(self) -> bool:
        """Return whether it can give a GPU to a container.

        Through the runtime, its hook, or the Container Device Interface; see
        https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/.
        """
        specs = (Path(folder) for folder in self.info.get("CDISpecDirs") or ())
        return (
            "nvidia" in (self.info.get("Runtimes") or {})
            or shutil.which("nvidia-container-runtime-hook") is not None
            or any(any(folder.glob("nvidia*")) for folder in specs)
        )

    @property
    def insecure_registries(self) -> tuple[str, ...]:
        """Return the registries that it connects to without TLS."""
        configs = (self.info.get("RegistryConfig") or {}).get("IndexConfigs") or {}
        return tuple(host for host, each in configs.items() if not each.get("Secure", True))


@dataclass(frozen=True)
class Disk:
    """Space in one folder, in bytes.

    Args:
        folder: where the build writes.
        free: what is left there.
        needed: what this build is known to write there.
        allowance: what it is assumed to need besides.
    """

    folder: str
    free: int
    needed: int
    allowance: int = 0


def read_engine() -> tuple[EngineFacts, DockerClient | None]:
    """Ask the engine and buildx, and return the facts and the engine's client, if it answers."""
    buildx = error = ""
    connected = None
    try:
        buildx = probe().buildx
        connected = client()
    except UserError as missing:
        error = missing.message
        if missing.code != "engine-missing":
            connected = client()
    if not connected:
        return EngineFacts(error=error), None
    info, address = connected.info(), find_address()
    return EngineFacts(str(info["ServerVersion"]), buildx, error, info, address), connected


def find_local(connected: DockerClient | None, references: Iterable[str]) -> tuple[str, ...]:
    """Return those of some images that the engine has."""
    found = []
    for name in references:
        with suppress(UserError), docker_errors(name):
            if connected and connected.images.get(name):
                found.append(name)
    return tuple(found)


def read_disks(inputs: BuildInputs, engine: EngineFacts, *, needs_base: bool) -> tuple[Disk, ...]:
    """Return where a build writes, and how much; nothing of an engine on another machine.

    Args:
        inputs: of the build.
        engine: that builds.
        needs_base: whether a base image has to be pulled.
    """
    store = Store(inputs.store)
    specs = [artifact.spec for artifact in inputs.artifacts]
    sizes = {spec.sha256 or spec.url: spec.size or 0 for spec in specs}
    missing = sum(size for sha, size in sizes.items() if not _exists(store.object_path(sha)))
    models = _disk(store.root, missing)
    root = str(engine.info.get("DockerRootDir", ""))
    if not (root and engine.address.startswith("unix:") and Path(root).is_dir()):
        return (models,)
    copies = 2 * sum(sizes.values())  # BuildKit keeps the context that it was sent, and the layer
    images = _disk(Path(root), copies, _PACKAGES + _BASE_ALLOWANCE * needs_base)
    if nearest(store.root).stat().st_dev != Path(root).stat().st_dev:
        return models, images
    return (replace(images, needed=models.needed + images.needed),)


def read_image_torch(connected: DockerClient | None, image: str) -> TorchFacts:
    """Run an image's own torch, and return what it reports, or as its error why it cannot.

    Args:
        connected: the engine; None where none answers.
        image: its reference; empty before the first build.
    """
    if connected is None or not image:
        return TorchFacts(error="not built yet")
    command = ["/bin/sh", "-c", 'exec "${WEBUI_PYTHON:-python3}" -c "$0"', PROBE.read_text()]
    try:
        with docker_errors(image, message="cannot import torch"):
            text = container_output(connected, image, command, timeout=_TORCH_TIMEOUT)
        facts = parse_facts(text)
    except UserError as error:
        return TorchFacts(error=error.message)
    except ValueError as error:
        return TorchFacts(error=f"cannot import torch: {error}")
    return replace(facts, error=facts.error and f"cannot import torch: {facts.error}")


def read_driver() -> tuple[Driver | None, str]:
    """Return this machine's NVIDIA driver, or None and why there is none.

    In a process of its own, because a broken driver may never answer.
    """
    argv = [sys.executable, "-m", "scripts.common.gpu.nvml"]
    try:
        done = run_program(argv, cwd=ROOT, timeout=_DRIVER_TIMEOUT)
        return parse_driver(done.stdout), ""
    except UserError:
        return None, "the NVIDIA driver does not answer"
    except ValueError:
        return None, last_line(done)


def nearest(folder: Path) -> Path:
    """Return the folder, or the first one above it that exists and may be read."""
    return next(each for each in (folder, *folder.parents) if _exists(each))


def _exists(path: Path) -> bool:
    """Return False, unlike Path.exists, where a folder above may not be read."""
    return os.path.exists(path)  # noqa: PTH110


def _disk(folder: Path, needed: int, allowance: int = 0) -> Disk:
    return Disk(str(folder), shutil.disk_usage(nearest(folder)).free, needed, allowance)
