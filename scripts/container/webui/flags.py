"""The WebUI's command line. Pure: settings in, words out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

from scripts.common.fetch.file_format import PICKLE_SUFFIXES
from scripts.container.settings import Settings

_ALWAYS: Final = (
    "--api",
    "--nowebui",
    "--no-half-vae",
    "--no-hashing",
    "--no-download-sd-model",
    "--skip-version-check",
    # These act through launch.py only; webui.py accepts them too.
    "--skip-python-version-check",
    "--skip-torch-cuda-test",
    "--skip-install",
)

_ACCELERATOR: Final = {
    # The WebUI takes the available one of highest priority: xformers (100) on devices from 6.0 to
    # 9.0, which includes the RTX 6000 Ada; torch's own attention (70) on all others, where
    # xformers brings no kernel.
    "cuda": ["--xformers", "--opt-sdp-attention"],
    "cpu": ["--use-cpu", "all", "--no-half", "--precision", "full"],
}


def webui_flags(settings: Settings, models: Iterable[str]) -> list[str]:
    """The words after `webui.py`.

    Args:
        settings: the environment.
        models: names of all files the WebUI could load as a model, beside `settings.model_path`.
    """
    words = [
        *_ALWAYS,
        *_ACCELERATOR[settings.accelerator],
        *("--ckpt", str(settings.model_path)),
        *("--data-dir", str(settings.data_dir)),
        # Without a name the server would listen on every interface.
        *("--server-name", settings.host, "--port", str(settings.port)),
        *("--loglevel", settings.log_level.upper()),
    ]
    if settings.model_dir:
        words += ["--ckpt-dir", str(settings.model_dir)]
    if not _holds_pickle(settings.model_path.name, models):
        words.append("--disable-safe-unpickle")
    return [*words, *settings.webui_args]


def _holds_pickle(checkpoint: str, models: Iterable[str]) -> bool:
    """Whether the WebUI's scan of pickles, which the flag switches off, has anything to scan.

    It unpickles every checkpoint that is not named as safetensors, whatever it is named.
    """
    if not checkpoint.lower().endswith(".safetensors"):
        return True
    return any(name.lower().endswith(PICKLE_SUFFIXES) for name in models)


def secret_flags(settings: Settings) -> str:
    """Flags that must not be seen in a process list, for the WebUI's COMMANDLINE_ARGS variable."""
    return shlex.join(["--api-auth", settings.api_auth]) if settings.api_auth else ""
