"""Finds out what the builder's machine is like. Slow and impure; nothing here has an opinion."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.device import Driver, parse_capability
from scripts.common.gpu.nvml import parse_driver
from scripts.common.gpu.torch_facts import PROBE, TorchFacts, parse_facts
from scripts.common.run import last_line, run_program
from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, LoadedConfig
from scripts.host.doctor import mirrors
from scripts.host.doctor.doctor_facts import Disk, Facts
from scripts.host.engine.client import Engine, client, docker_errors, explanation, probe
from scripts.host.engine.containers import container_output
from scripts.host.models.artifacts import plan
from scripts.host.models.store import Store

if TYPE_CHECKING:
    from docker import DockerClient

# What an image of the usual recipe has over its base: 1.99 GB, measured with A1111 v1.9.3.
_PACKAGES = 2_000_000_000
# Assumed for a base image that the engine does not have yet, on the safe side and unmeasured.
_BASE_ALLOWANCE = 10_000_000_000
_TORCH_TIMEOUT = 120  # seconds; a cold page cache makes importing torch slow

_DRIVER_TIMEOUT = 30.0  # seconds; waking sleeping GPUs takes some


def gather(loaded: LoadedConfig) -> Facts:
    """Ask everything."""
    inputs = resolve(loaded)
    engine, connected, engine_trouble = _engine()
    driver, driver_trouble = read_driver()
    info = connected.info() if connected else {}
    bases = _local_bases(inputs, connected)
    image = _image(inputs, connected)
    torch, torch_trouble = torch_of(connected, image)
    config = loaded.config
    return Facts(
        accelerator=config.build.accelerator,
        targets=tuple(parse_capability(target) for target in config.smoke.targets),
        engine=str(info.get("ServerVersion", "")),
        buildx=".".join(map(str, engine.buildx)) if engine else "",
        engine_trouble=engine_trouble,
        disks=_disks(loaded, str(info.get("DockerRootDir", "")), missing_bases=2 - len(bases)),
        driver=driver,
        driver_trouble=driver_trouble,
        has_toolkit=has_toolkit(info),
        image=image,
        torch=torch,
        torch_trouble=torch_trouble,
        mirrors=mirrors.reach(loaded, bases, insecure_registries(info)),
        unpinned=inputs.unpinned,
        packages=config.build.requirements,
        has_packages=(loaded.root / config.build.requirements).is_file(),
        store=str(loaded.store),
        store_trouble=unwritable(loaded.store),
    )


def torch_of(connected: DockerClient | None, image: str) -> tuple[TorchFacts | None, str]:
    """What an image's own torch says of itself, or None and why it does not.

    Args:
        connected: the engine; None where none answers.
        image: its reference; empty where there is none to ask.
    """
    if connected is None or not image:
        return None, ""
    from docker.errors import ContainerError

    command = ["/bin/sh", "-c", 'exec "${WEBUI_PYTHON:-python3}" -c "$0"', PROBE.read_text()]
    try:
        with docker_errors(image, message="cannot be run"):
            try:
                text = container_output(connected, image, command, timeout=_TORCH_TIMEOUT)
            except ContainerError as error:
                return None, f"cannot import torch: {explanation(error)}"
    except UserError as error:
        return None, error.message
    try:
        facts = parse_facts(text)
    except ValueError as error:
        return None, f"cannot import torch: {error}"
    return (None, f"cannot import torch: {facts.error}") if facts.error else (facts, "")


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


def has_toolkit(info: dict[str, Any]) -> bool:
    """Whether an engine that says so of itself can give a GPU to a container.

    Either through the runtime, or its hook, or the Container Device Interface; see
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/.
    """
    specs = (Path(folder) for folder in info.get("CDISpecDirs") or ())
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or shutil.which("nvidia-container-runtime-hook") is not None
        or any(any(folder.glob("nvidia*")) for folder in specs)
    )


def insecure_registries(info: dict[str, Any]) -> tuple[str, ...]:
    """The registries that an engine speaks to without TLS, by what it says of itself."""
    configs = (info.get("RegistryConfig") or {}).get("IndexConfigs") or {}
    return tuple(host for host, config in configs.items() if not config.get("Secure", True))


def unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not exist yet; empty when it can."""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there and may be looked at."""
    return next(each for each in (folder, *folder.parents) if _is_there(each))


def _is_there(path: Path) -> bool:
    """Unlike Path.exists, does not raise where a folder above may not be looked into."""
    return os.path.exists(path)  # noqa: PTH110


def _engine() -> tuple[Engine | None, DockerClient | None, UserError | None]:
    try:
        return probe(), client(), None
    except UserError as failure:
        if failure.code == "engine-missing":
            return None, None, failure
        return None, client(), failure


def _local_bases(inputs: BuildInputs, connected: DockerClient | None) -> tuple[str, ...]:
    """The base images that the engine has."""
    references = (base.reference for base in (inputs.download_base, inputs.runtime_base))
    return tuple(name for name in references if _has(connected, name))


def _image(inputs: BuildInputs, connected: DockerClient | None) -> str:
    """The newest image of this config that the engine has; empty when none."""
    return next((name for name in inputs.references if _has(connected, name)), "")


def _has(connected: DockerClient | None, name: str) -> bool:
    if connected is None:
        return False
    try:
        with docker_errors(name):
            connected.images.get(name)
    except UserError:
        return False
    return True


def _disks(loaded: LoadedConfig, engine_root: str, *, missing_bases: int) -> tuple[Disk, ...]:
    """Where this build writes, and how much; an engine elsewhere keeps its own counsel."""
    store = Store(loaded.store)
    items = plan(loaded)
    sizes = {item.wanted.sha256 or item.wanted.url: item.wanted.size or 0 for item in items}
    absent = sum(size for sha, size in sizes.items() if not _is_there(store.object_path(sha)))
    own = _disk(store.root, absent)
    if not engine_root or not Path(engine_root).is_dir():
        return (own,)
    models = 2 * sum(sizes.values())  # BuildKit keeps the context it was sent, and the layer
    engines = _disk(Path(engine_root), models, _PACKAGES + _BASE_ALLOWANCE * bool(missing_bases))
    if nearest(store.root).stat().st_dev != Path(engine_root).stat().st_dev:
        return own, engines
    return (replace(engines, needed=own.needed + engines.needed),)


def _disk(folder: Path, needed: int, allowance: int = 0) -> Disk:
    return Disk(str(folder), shutil.disk_usage(nearest(folder)).free, needed, allowance)
