"""Facts about this container and its machine, without opinion."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.device import Driver
from scripts.common.gpu.judge import kernel_error
from scripts.common.gpu.nvml import NvmlError, read_driver
from scripts.common.gpu.torch_facts import PROBE, TorchFacts, parse_facts
from scripts.common.run import last_line, run_program
from scripts.container import paths
from scripts.container.settings import Settings
from scripts.container.webui import environment
from scripts.container.webui.model_check import check_models
from scripts.container.webui.model_links import read_own_links
from scripts.container.webui.model_sources import Problem, measure_files
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


class Facts:
    """Facts that the checks judge; each is determined once, when it is first asked for.

    Public attributes are the fields of the JSON report. The import of torch, the slow one, begins
    at once in a process of its own. Sizes are in bytes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Without a GPU to judge, torch's import would only take time from the server's own.
        self._torch: Future[TorchFacts] | None = None
        if settings.accelerator == "cuda":
            self._torch = ThreadPoolExecutor(1).submit(ask_torch, settings.webui_python)

    @cached_property
    def accelerator(self) -> str:
        """What the image draws with, cuda or cpu."""
        return self._settings.accelerator

    @cached_property
    def _driver(self) -> tuple[Driver | None, str]:
        try:
            return read_driver(), ""
        except NvmlError as error:
            return None, str(error)

    @cached_property
    def driver(self) -> Driver | None:
        """The NVIDIA driver, None where there is none."""
        return self._driver[0]

    @cached_property
    def driver_error(self) -> str:
        """Why there is no driver, empty when there is one."""
        return self._driver[1]

    @cached_property
    def tcmalloc(self) -> str:
        """Library that will be preloaded, empty when none can be."""
        return environment.find_tcmalloc(self._settings.tcmalloc)

    @cached_property
    def _tree(self) -> ModelTree:
        """The models of the running worker; searched for anew where none runs."""
        tree = load_tree(self._settings.worker_dir)
        if tree is None:
            try:
                tree = build_model_tree(self._settings, read_own_links(self._settings.data_dir))
            except UserError as error:
                path = self._settings.model_path
                problem = Problem(path, error.message)
                tree = ModelTree(problems=(problem,), checkpoint=path)
        return tree

    @cached_property
    def models(self) -> dict[str, int]:
        """Models that the WebUI sees, by kind."""
        return {kind: count for kind, count in self._tree.count_by_kind().items() if count}

    @cached_property
    def models_shadowed(self) -> int:
        """Models that are hidden by others of the same name."""
        return len(self._tree.entries) - len(self._tree.visible)

    @cached_property
    def model_problems(self) -> list[str]:
        """Models and folders of models that cannot be read, linked or used, with the reasons."""
        damaged = check_models(self._settings, self._tree.entries, _CHECK_TIMEOUT)
        problems = (*self._tree.problems, *damaged)
        return [f"{problem.path}: {problem.reason}" for problem in problems]

    @cached_property
    def model(self) -> str:
        """Path of the checkpoint."""
        return str(self._tree.checkpoint)

    @cached_property
    def _model(self) -> tuple[bool, str]:
        from scripts.common.fetch.file_format import check_structure

        path = self._tree.checkpoint
        try:
            check_structure(path, path.name, kind="checkpoint", allow_pickle=True)
            return False, ""
        except UserError as error:
            return False, error.message
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            return missing, (error.strerror or str(error)).lower()

    @cached_property
    def model_missing(self) -> bool:
        """Whether there is no checkpoint."""
        return self._model[0]

    @cached_property
    def model_error(self) -> str:
        """What is wrong with the checkpoint, as far as its header shows; empty when nothing is."""
        return self._model[1]

    @cached_property
    def volume(self) -> str:
        """Where the network volume is mounted."""
        return str(self._settings.volume_dir)

    @cached_property
    def volume_there(self) -> bool:
        """Whether the network volume is mounted."""
        return self._settings.volume_dir.is_dir()

    @cached_property
    def volume_error(self) -> str:
        """Why the volume cannot be written to, empty when it can or is not mounted.

        Who owns pip's cache on the volume need not own all of it.
        """
        if not self.volume_there:
            return ""
        volume, cache = self._settings.volume_dir, self._settings.pip_cache_dir
        return paths.find_write_error(cache if cache.is_relative_to(volume) else volume)

    @cached_property
    def memory(self) -> int:
        """Memory that this container may use: its own limit, or the machine's."""
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for path in _MEMORY_LIMITS:
            try:
                return min(int(path.read_text()), machine)
            except (OSError, ValueError):
                continue  # another version of cgroups, or "max"
        return machine

    @cached_property
    def memory_needed(self) -> int:
        """Memory that serving is known to need, with all checkpoints that are to stay loaded."""
        first, *others = self.checkpoint_sizes or [0]
        if self.accelerator == "cpu":
            return _CPU_MEMORY + _CPU_GROWTH * sum(others)
        return _CUDA_MEMORY + first + sum(others)

    @cached_property
    def checkpoints_in_memory(self) -> int:
        """How many checkpoints may be loaded at once."""
        return count_checkpoints_in_memory(self._settings)

    @cached_property
    def checkpoint_sizes(self) -> list[int]:
        """Sizes of the largest checkpoints that may be loaded at once, largest first."""
        count = self.checkpoints_in_memory
        paths = self._tree.list_checkpoints() if count > 1 else [self._tree.checkpoint]
        return sorted(measure_files(paths).values(), reverse=True)[:count]

    @cached_property
    def shm(self) -> int:
        """Size of /dev/shm."""
        try:
            found = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size only
        except OSError:
            return 0
        return found.f_blocks * found.f_frsize

    @cached_property
    def torch(self) -> TorchFacts | None:
        """Torch in the WebUI's Python; None when it was not asked."""
        return self._torch.result() if self._torch else None

    def to_json(self) -> dict[str, Any]:
        """Return the facts as the JSON report holds them."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in _NAMES}
        facts["driver"] = asdict(self.driver) if self.driver else None
        if torch := self.torch:
            facts["torch"] = {
                **asdict(torch),
                "kernels": {name: kernel_error(each) for name, each in torch.kernels.items()},
                "capability": torch.devices[0].capability if torch.devices else None,
            }
        return facts


_NAMES: Final = tuple(
    name
    for name, value in vars(Facts).items()
    if isinstance(value, cached_property) and not name.startswith("_")
)


def gather_facts(settings: Settings) -> Facts:
    """Determine every fact; torch, the last, is imported meanwhile."""
    facts = Facts(settings)
    for name in _NAMES:
        getattr(facts, name)
    return facts


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
