"""Determine facts about this container and its machine."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import PROBE, Driver, TorchFacts, parse_facts
from scripts.common.gpu.judge import kernel_error
from scripts.common.gpu.nvml import NvmlError, read_driver
from scripts.common.models.folder_listing import Problem
from scripts.common.models.model_search import measure_files
from scripts.common.run import last_line, run_program
from scripts.container import paths
from scripts.container.settings import Settings
from scripts.container.webui import environment
from scripts.container.webui.model_check import check_models
from scripts.container.webui.model_links import read_own_links
from scripts.container.webui.model_tree import ModelTree, build_model_tree, load_tree
from scripts.container.webui.webui_options import count_checkpoints_in_memory

_DTYPE: Final = "float16"  # what the WebUI draws with by default
_TIMEOUT: Final = 120.0  # seconds; a cold page cache makes the import of torch slow, not this slow
_CHECK_TIMEOUT: Final = 20.0  # seconds in which as many of the volume's models are read as can be
_CPU_MEMORY: Final = 5_500_000_000  # measured with an SD 1.5 checkpoint, A1111 v1.9.3
_CUDA_MEMORY: Final = 1_000_000_000  # beside the checkpoint, which passes through main memory
_CPU_GROWTH: Final = 2  # half-precision weights become single precision on the CPU (--no-half)
_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class Facts:
    """Facts that the checks judge, as the JSON report holds them. Sizes are in bytes.

    Args:
        accelerator: device that the image draws with: cuda or cpu.
        driver: NVIDIA driver, None without one.
        driver_error: reason why there is no driver, empty when there is one.
        tcmalloc: library that will be preloaded, empty when none can be.
        model: path of the checkpoint.
        model_missing: there is no checkpoint.
        model_error: fault of the checkpoint, as far as its header shows; empty without a fault.
        models: number of models that the WebUI sees, by kind.
        models_shadowed: number of models that are hidden by others of the same name.
        model_problems: models and folders that cannot be read, linked or used, with the reasons.
        volume: mount point of the network volume.
        volume_there: the network volume is mounted.
        volume_error: reason why the volume cannot be written to, empty when it can or is not
            mounted.
        memory: memory that this container may use: its own limit, or the machine's.
        memory_needed: memory that serving is known to need, with all checkpoints that are to stay
            loaded.
        checkpoints_in_memory: number of checkpoints that may be loaded at once.
        checkpoint_sizes: sizes of the largest checkpoints that may be loaded at once, largest
            first.
        shm: size of /dev/shm.
        torch: torch in the WebUI's Python; None on the CPU.
    """

    accelerator: str
    driver: Driver | None
    driver_error: str
    tcmalloc: str
    model: str
    model_missing: bool
    model_error: str
    models: dict[str, int]
    models_shadowed: int
    model_problems: list[str]
    volume: str
    volume_there: bool
    volume_error: str
    memory: int
    memory_needed: int
    checkpoints_in_memory: int
    checkpoint_sizes: list[int]
    shm: int
    torch: TorchFacts | None

    def to_json(self) -> dict[str, Any]:
        """Return the facts as the JSON report holds them."""
        facts = asdict(self)
        if self.torch:
            kernels, devices = self.torch.kernels, self.torch.devices
            facts["torch"] |= {
                "kernels": {name: kernel_error(each) for name, each in kernels.items()},
                "capability": devices[0].capability if devices else None,
            }
        return facts


def gather_facts(settings: Settings) -> Facts:
    """Determine every fact; torch is imported meanwhile, in a process of its own."""
    on_cuda = settings.accelerator == "cuda"
    with ThreadPoolExecutor(1) as pool:
        # Without a GPU to judge, torch's import would only take time from the server's own.
        torch = pool.submit(ask_torch, settings.webui_python) if on_cuda else None
        driver, driver_error = _ask_driver()
        tree = _find_models(settings)
        model_missing, model_error = _check_model(tree.checkpoint)
        loaded = count_checkpoints_in_memory(settings)
        sizes = _measure_checkpoints(tree, loaded)
        unusable = check_models(settings, tree.entries, _CHECK_TIMEOUT)
        return Facts(
            accelerator=settings.accelerator,
            driver=driver,
            driver_error=driver_error,
            tcmalloc=environment.find_tcmalloc(settings.tcmalloc),
            model=str(tree.checkpoint),
            model_missing=model_missing,
            model_error=model_error,
            models={kind: count for kind, count in tree.count_by_kind().items() if count},
            models_shadowed=len(tree.entries) - len(tree.visible),
            model_problems=[f"{each.path}: {each.reason}" for each in (*tree.problems, *unusable)],
            volume=str(settings.volume_dir),
            volume_there=settings.volume_dir.is_dir(),
            volume_error=_find_volume_error(settings),
            memory=_read_memory_limit(),
            memory_needed=_estimate_memory(settings.accelerator, sizes),
            checkpoints_in_memory=loaded,
            checkpoint_sizes=sizes,
            shm=_measure_shm(),
            torch=torch.result() if torch else None,
        )


def _ask_driver() -> tuple[Driver | None, str]:
    try:
        return read_driver(), ""
    except NvmlError as error:
        return None, str(error)


def _find_models(settings: Settings) -> ModelTree:
    """Return the models of the running worker; search for them where none runs."""
    if tree := load_tree(settings.worker_dir):
        return tree
    try:
        return build_model_tree(settings, read_own_links(settings.data_dir))
    except UserError as error:
        path = settings.model_path
        return ModelTree(problems=(Problem(path, error.message),), checkpoint=path)


def _check_model(path: Path) -> tuple[bool, str]:
    """Return whether the checkpoint is missing, and its fault, as far as its header shows."""
    from scripts.common.fetch.file_format import check_structure

    try:
        check_structure(path, path.name, kind="checkpoint", allow_pickle=True)
        return False, ""
    except UserError as error:
        return False, error.message
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return missing, (error.strerror or str(error)).lower()


def _find_volume_error(settings: Settings) -> str:
    """Try to write to the volume; the owner of pip's cache on it need not own all of it."""
    volume, cache = settings.volume_dir, settings.pip_cache_dir
    if not volume.is_dir():
        return ""
    return paths.find_write_error(cache if cache.is_relative_to(volume) else volume)


def _read_memory_limit() -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _MEMORY_LIMITS:
        try:
            return min(int(path.read_text()), machine)
        except (OSError, ValueError):
            continue  # another version of cgroups, or "max"
    return machine


def _measure_checkpoints(tree: ModelTree, count: int) -> list[int]:
    """Return the sizes of the largest checkpoints of which `count` may be loaded at once."""
    paths = tree.list_checkpoints() if count > 1 else [tree.checkpoint]
    return sorted(measure_files(paths).values(), reverse=True)[:count]


def _estimate_memory(accelerator: str, sizes: Sequence[int]) -> int:
    if accelerator == "cpu":  # the first one is part of the measured memory
        return _CPU_MEMORY + _CPU_GROWTH * sum(sizes[1:])
    return _CUDA_MEMORY + sum(sizes)


def _measure_shm() -> int:
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size only
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize


def ask_torch(python: Path, timeout: float = _TIMEOUT) -> TorchFacts:
    """Run the probe in the WebUI's own Python; a crash or a timeout is an error of torch."""
    argv = [str(python), str(PROBE), _DTYPE]
    try:
        # This code is not for the WebUI's Python, where `scripts` means something else.
        done = run_program(argv, timeout=timeout, env={"PYTHONPATH": ""})
    except (OSError, UserError) as error:
        return TorchFacts(error=error.message if isinstance(error, UserError) else str(error))
    try:
        return parse_facts(done.stdout)
    except ValueError:
        return TorchFacts(error=f"its process ended with {done.returncode}: {last_line(done)}")
