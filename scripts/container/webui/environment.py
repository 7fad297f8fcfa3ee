"""Build the environment of child processes, with the allocator that is preloaded into the WebUI."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.common.pip_cache.log_statistics import RUNS
from scripts.common.secrets import is_secret
from scripts.container import paths
from scripts.container.log import log
from scripts.container.settings import CONTAINER_PATH, Settings
from scripts.container.webui.flags import secret_flags

_TCMALLOC: Final = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
_OWN_PATHS: Final = {str(CONTAINER_PATH), str(Path(__file__).resolve().parents[3])}


def common_environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment of every child, with folders that can be written to."""
    cache = paths.choose_pip_cache(settings)
    return {
        **environ,
        "HOME": str(paths.choose_home(settings, environ.get("HOME", ""))),
        "PIP_CACHE_DIR": str(cache),
        # `pip-cache stats` reads hits and misses from pip's own logs.
        "PIP_LOG": str(cache / RUNS / f"{os.uname().nodename}.log"),
        "WORKER_DIR": str(settings.worker_dir),
    }


def webui_environment(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the WebUI's environment, made from the common one.

    Secrets that the WebUI does not need are left out: it runs extensions and downloaded code.
    """
    kept = {
        name: value
        for name, value in env.items()
        if not (is_secret(name) or name.startswith("BUCKET_") or name == "PYTHONPATH")
    }
    kept["WEBUI_LAZY_IMPORTS"] = settings.webui_lazy_imports
    # This code must not be importable in the WebUI, where `scripts` is another package.
    folders = env.get("PYTHONPATH", "").split(os.pathsep)
    if path := os.pathsep.join(folder for folder in folders if folder not in {"", *_OWN_PATHS}):
        kept["PYTHONPATH"] = path
    if secret := secret_flags(settings):
        kept["COMMANDLINE_ARGS"] = f"{env.get('COMMANDLINE_ARGS', '')} {secret}".strip()
    if library := find_tcmalloc(settings.tcmalloc):
        kept["LD_PRELOAD"] = " ".join(filter(None, (library, env.get("LD_PRELOAD"))))
    return kept


def find_tcmalloc(choice: str) -> str:
    """Return a library that can be preloaded; empty, with a warning, when there is none.

    Args:
        choice: auto, off, or a library's path. By a name alone the dynamic linker finds it.
    """
    if choice == "off":
        return ""
    libraries = _TCMALLOC if choice == "auto" else (choice,)
    for library in libraries:
        if can_preload(library):
            return library
    reason = f"cannot be preloaded: {', '.join(libraries)}"
    log("tcmalloc-missing", level="warning", reason=reason, effect="memory fragments sooner")
    return ""


def can_preload(library: str) -> bool:
    """Return whether the dynamic linker accepts a library: if not, it complains and goes on."""
    run = subprocess.run(
        ["/bin/true"], env={"LD_PRELOAD": library}, capture_output=True, check=False
    )
    return run.returncode == 0 and not run.stderr
