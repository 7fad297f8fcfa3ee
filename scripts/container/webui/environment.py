"""The environment of each child process, and the allocator that is preloaded into the WebUI."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from scripts.common.pip_cache.log_statistics import RUNS
from scripts.container import paths
from scripts.container.log import log
from scripts.container.settings import CONTAINER_PATH, Settings
from scripts.container.webui.flags import secret_flags

_LIBRARY_FOLDERS: Final = ("/usr/lib", "/usr/local/lib", "/lib")
_NAMES: Final = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc_minimal.so.4.*")

# The WebUI runs extensions and downloaded code; what it does not need it does not get.
_SECRETS: Final = ("API_AUTH", "HF_TOKEN", "RUNPOD_AI_API_KEY", "RUNPOD_API_KEY")


def common_environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What every child gets: folders that it can write to, found out by writing."""
    env = dict(environ)
    env["HOME"] = str(paths.home(settings, environ.get("HOME", "")))
    cache = paths.pip_cache(settings)
    env["PIP_CACHE_DIR"] = str(cache)
    # pip's own log of its runs is what `pip-cache stats` knows hits and misses from.
    env["PIP_LOG"] = str(cache / RUNS / f"{os.uname().nodename}.log")
    env["WORKER_DIR"] = str(settings.worker_dir)
    return env


def server_environment(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What the WebUI gets, out of what every child gets."""
    made = {
        key: value
        for key, value in env.items()
        if key not in _SECRETS and not key.startswith("BUCKET_")
    }
    # This code is no part of the WebUI's import path, where `scripts` means something else.
    kept = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    made["PYTHONPATH"] = os.pathsep.join(path for path in kept if path not in _own_paths())
    if not made["PYTHONPATH"]:
        del made["PYTHONPATH"]
    if secret := secret_flags(settings):
        made["COMMANDLINE_ARGS"] = f"{env.get('COMMANDLINE_ARGS', '')} {secret}".strip()
    if library := tcmalloc(settings.tcmalloc):
        made["LD_PRELOAD"] = " ".join(filter(None, (library, env.get("LD_PRELOAD"))))
    return made


def _own_paths() -> set[str]:
    return {str(CONTAINER_PATH), str(Path(__file__).resolve().parents[3])}


def tcmalloc(choice: str) -> str:
    """The library to preload, proven loadable; empty with a warning when there is none.

    Args:
        choice: auto, off, or a library's path.
    """
    if choice == "off":
        return ""
    found = [Path(choice)] if choice != "auto" else list(_candidates())
    for library in found:
        if preloads(library):
            return str(library)
    reason = f"{found[0]} cannot be preloaded" if found else "not found"
    log("tcmalloc-missing", level="warning", reason=reason, effect="memory fragments sooner")
    return ""


def _candidates() -> Iterator[Path]:
    for name in _NAMES:
        for folder in _LIBRARY_FOLDERS:
            yield from sorted(Path(folder).glob(name))
            yield from sorted(Path(folder).glob(f"*-linux-gnu/{name}"))


def preloads(library: Path) -> bool:
    """Whether the dynamic linker accepts a library: it only complains, and goes on without."""
    run = subprocess.run(
        ["/bin/true"], env={"LD_PRELOAD": str(library)}, capture_output=True, check=False
    )
    return run.returncode == 0 and not run.stderr
