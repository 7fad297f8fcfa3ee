"""Determine facts about this container and its machine."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import PROBE, Driver, TorchFacts, parse_facts
from scripts.common.gpu.judge import kernel_error
from scripts.common.gpu.nvml import NvmlError, read_driver
from scripts.common.models.folder_listing import Problem
from scripts.common.models.model_search import measure_files
from scripts.common.models.weights import weights_for
from scripts.common.run import last_line, run_program
from scripts.container import paths
from scripts.container.settings import Settings
from scripts.container.webui import environment
from scripts.container.webui.checkpoint_memory import (
    CheckpointWeights,
    estimate_gpu_memory,
    estimate_main_memory,
    estimate_resident_weights,
    read_memory_limit,
    read_weights,
    saves_gpu_memory,
)
from scripts.container.webui.model_check import check_models
from scripts.container.webui.model_flags import select_memory_flags
from scripts.container.webui.model_links import find_start, read_own_links
from scripts.container.webui.model_tree import ModelTree, build_model_tree, load_tree
from scripts.container.webui.webui_options import count_checkpoints_in_memory, read_options

_DTYPE: Final = "float16"  # what the WebUI draws with by default
_TIMEOUT: Final = 120.0  # seconds; a cold page cache makes the import of torch slow, not this slow
_CHECK_TIMEOUT: Final = 20.0  # seconds in which as many of the volume's models are read as can be


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
        model_base: base model of the checkpoint, such as SD1 or SDXL; empty if unknown.
        previews_missing: file that each job with this checkpoint loads for live previews, and that
            is not there; empty where all is well, or live previews are set up to need none.
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
        memory_weights: part of it that weights take for as long as they are loaded.
        gpu_weights: GPU memory that the checkpoint's weights take.
        gpu_memory_needed: GPU memory that they and one image of the checkpoint's own size take; 0
            where it is not known, because flags of the WebUI keep parts of it in main memory.
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
    model_base: str
    previews_missing: str
    models: dict[str, int]
    models_shadowed: int
    model_problems: list[str]
    volume: str
    volume_there: bool
    volume_error: str
    memory: int
    memory_needed: int
    memory_weights: int
    gpu_weights: int
    gpu_memory_needed: int
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
        first, largest = _read_checkpoints(tree, loaded)
        smallest = min((gpu.total for gpu in driver.gpus), default=0) if driver else 0
        memory_flags = select_memory_flags(settings, smallest, first.base)
        saves = saves_gpu_memory(memory_flags, first.base)
        unusable = check_models(settings, tree.entries, _CHECK_TIMEOUT)
        return Facts(
            accelerator=settings.accelerator,
            driver=driver,
            driver_error=driver_error,
            tcmalloc=environment.find_tcmalloc(settings.tcmalloc),
            model=str(tree.checkpoint),
            model_missing=model_missing,
            model_error=model_error,
            model_base=first.base,
            previews_missing=_find_missing_previews(settings, first.base),
            models={kind: count for kind, count in tree.count_by_kind().items() if count},
            models_shadowed=len(tree.entries) - len(tree.visible),
            model_problems=[f"{each.path}: {each.reason}" for each in (*tree.problems, *unusable)],
            volume=str(settings.volume_dir),
            volume_there=paths.is_volume(settings.volume_dir),
            volume_error=_find_volume_error(settings),
            memory=read_memory_limit(),
            memory_needed=estimate_main_memory(settings.accelerator, largest),
            memory_weights=estimate_resident_weights(settings.accelerator, largest),
            gpu_weights=first.mixed_size,
            gpu_memory_needed=0 if saves else estimate_gpu_memory(first),
            checkpoints_in_memory=loaded,
            checkpoint_sizes=[each.file_size for each in largest],
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
        tree = build_model_tree(settings, read_own_links(settings.data_dir))
        return replace(tree, checkpoint=find_start(settings, tree))
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
    if not paths.is_volume(volume):
        return ""
    return paths.find_write_error(cache if cache.is_relative_to(volume) else volume)


def _read_checkpoints(
    tree: ModelTree, count: int
) -> tuple[CheckpointWeights, list[CheckpointWeights]]:
    """Return the checkpoint that is loaded at start, and the `count` largest ones."""
    sizes = measure_files({tree.checkpoint, *(tree.list_checkpoints() if count > 1 else ())})
    first = read_weights(tree.checkpoint, sizes.get(tree.checkpoint, 0))
    if count == 1:
        return first, [first] if tree.checkpoint in sizes else []
    # The checkpoint itself is among these, maybe by another path.
    listed = [(sizes[path], path) for path in tree.list_checkpoints() if path in sizes]
    listed.sort(key=lambda each: each[0], reverse=True)
    return first, [read_weights(path, size) for size, path in listed[:count]]


def _find_missing_previews(settings: Settings, base: str) -> str:
    """Return the weights of the default live preview where the WebUI would have to fetch them.

    It loads them in every job (`process_images_inner` in `modules/processing.py`), from one of two
    folders (`modules/sd_vae_approx.py`).
    """
    try:
        options = read_options(settings)
    except (OSError, ValueError):
        options = {}
    is_on = options.get("live_previews_enable", True)
    if not is_on or options.get("show_progress_type", "Approx NN") != "Approx NN":
        return ""
    places = [row.data_path for row in weights_for("preview", base) if row.data_path]
    folders = (settings.data_dir, settings.webui_dir)
    missing = (
        str(settings.data_dir / place)
        for place in places
        if not any((folder / place).is_file() for folder in folders)
    )
    return next(missing, "")


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
