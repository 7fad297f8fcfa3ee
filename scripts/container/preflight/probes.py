"""Finds out what the machine is like. Slow and impure; nothing here has an opinion.

The one slow part, importing torch, runs in a process of its own while the rest is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.nvml import LIBRARY, Driver, NvmlError, ask
from scripts.container import paths
from scripts.container.preflight.preflight_facts import Facts, Torch
from scripts.container.settings import Settings
from scripts.container.webui import environment

_SCRIPT: Final = Path(__file__).parents[2] / "common/gpu/torch_probe.py"
_TIMEOUT: Final = 120.0  # seconds; a cold page cache makes the import of torch slow, not this slow
_CPU_MEMORY: Final = 5_500_000_000  # measured with an SD 1.5 checkpoint, A1111 v1.9.3
_CUDA_MEMORY: Final = 1_000_000_000  # beside the checkpoint, which passes through main memory
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def gather(settings: Settings, *, library: str = LIBRARY) -> Facts:
    """Ask everything.

    Args:
        settings: the worker's.
        library: the driver's management library.
    """
    cuda = settings.accelerator == "cuda"
    # Without a GPU to judge, torch's import would only take time from the server's own.
    asked = start_torch(settings.webui_python) if cuda else None
    driver, driver_error = _driver(library)
    volume, model = settings.volume_dir, settings.model_path
    there = volume.is_dir()
    return Facts(
        accelerator=settings.accelerator,
        driver=driver,
        driver_error=driver_error,
        tcmalloc=environment.tcmalloc(settings.tcmalloc),
        model=str(model),
        model_error=_model_error(model),
        volume=str(volume),
        volume_error=_volume_error(settings) if there else "",
        volume_there=there,
        memory=memory(),
        memory_needed=_CUDA_MEMORY + _size(model) if cuda else _CPU_MEMORY,
        shm=_shm(),
        torch=torch_facts(asked) if asked else None,
    )


def start_torch(python: Path) -> subprocess.Popen[str]:
    """Begin to ask torch, in the WebUI's own Python.

    Raises:
        UserError: that Python cannot be started.
    """
    words = [str(python), str(_SCRIPT), "--kernels"]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
    except OSError as error:
        raise UserError(
            f"the WebUI's Python cannot be started: {error.strerror}",
            location=str(python),
            hint="set WEBUI_PYTHON, or use an image that `invoke build` made",
        ) from None


def torch_facts(asked: subprocess.Popen[str], timeout: float = _TIMEOUT) -> Torch:
    """What came back; a crash or silence is told as torch's error."""
    try:
        out, err = asked.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        asked.kill()
        asked.communicate()
        return Torch(error=f"no answer within {timeout:.0f} s")
    try:
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        last = err.strip().splitlines()[-1:] or [""]
        return Torch(error=f"its process ended with {asked.returncode}: {last[0]}")
    told["archs"] = tuple(told.get("archs", ()))
    if capability := told.get("capability"):
        told["capability"] = (capability[0], capability[1])
    return Torch(**told)


def memory() -> int:
    """Bytes that this container may use: its own limit, or the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _LIMITS:
        try:
            return min(int(path.read_text()), machine)
        except (OSError, ValueError):
            continue  # another version of cgroups, or "max"
    return machine


def _driver(library: str) -> tuple[Driver | None, str]:
    try:
        return ask(library), ""
    except NvmlError as error:
        return None, str(error)


def _model_error(path: Path) -> str:
    from scripts.common.fetch.file_format import check_structure

    try:
        check_structure(path, path.name, allow_pickle=True)
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except UserError as failure:
        return failure.message
    return ""


def _volume_error(settings: Settings) -> str:
    """Why the volume is of no use; who owns pip's cache on it need not own all of it."""
    on_it = settings.pip_cache_dir.is_relative_to(settings.volume_dir)
    return paths.usable(settings.pip_cache_dir if on_it else settings.volume_dir)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _shm() -> int:
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size only
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize
