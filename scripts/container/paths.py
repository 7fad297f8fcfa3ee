"""Which folders the worker writes to, whatever it was started as: root, any user, read-only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.log_statistics import RUNS
from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.status.state import read_state

_PROBE: Final = 64 * 1024


def usable(folder: Path) -> str:
    """Why a folder cannot be written to; empty when it can. It is made where it is missing."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Not empty: a full file system still makes empty files.
            probe.write_bytes(b"\0" * _PROBE)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def volume_missing(folder: Path, volume: Path) -> bool:
    """Whether a folder is meant to be on a volume that is not mounted."""
    return folder.is_relative_to(volume) and not volume.is_dir()


def to_own(settings: Settings) -> list[Path]:
    """The folders that the serving user must own; none on a volume that is not there."""
    folders = [settings.worker_dir, settings.data_dir, settings.pip_cache_dir]
    return [folder for folder in folders if not volume_missing(folder, settings.volume_dir)]


def to_enter(settings: Settings) -> list[Path]:
    """The folders that models are fetched into at start."""
    return sorted({Path(path).parent for path in _on_volume(settings)})


def require(settings: Settings) -> None:
    """Make sure of the folders that nothing works without.

    Raises:
        UserError: one cannot be written to (code `not-writable`).
    """
    for folder in (settings.worker_dir, settings.data_dir):
        if reason := usable(folder):
            raise UserError(
                f"the worker cannot write there: {reason}",
                location=str(folder),
                code="not-writable",
            )


def home(settings: Settings, configured: str) -> Path:
    """A home folder that can be written to: libraries keep caches there."""
    if configured not in ("", "/") and not usable(Path(configured)):
        return Path(configured)
    return _made(settings.worker_dir / "home")


def pip_cache(settings: Settings) -> Path:
    """Pip's cache on the volume, or a folder that ends with the container and one warning."""
    wanted = settings.pip_cache_dir
    missing = volume_missing(wanted, settings.volume_dir)
    reason = f"{settings.volume_dir} is not mounted" if missing else usable(wanted / RUNS)
    if not reason:
        return wanted
    log("pip-cache-ephemeral", level="warning", wanted=wanted, reason=reason)
    return _made(settings.worker_dir / "pip-cache" / RUNS).parent


def pip_cache_in_use(settings: Settings) -> Path:
    """Pip's cache of the worker that runs here; where none runs, the one that is configured."""
    return Path(read_state(settings.worker_dir).pip_cache or settings.pip_cache_dir)


def models(settings: Settings) -> list[str]:
    """Names of all files that the WebUI could load as a model, beside the checkpoint.

    What comes with the WebUI itself is at a pinned commit and does not count.
    """
    words = [word.rpartition("=")[2] for word in settings.webui_args]  # --vae-dir=/x, --vae-dir /x
    folders = [
        settings.data_dir / "models",
        settings.data_dir / "embeddings",
        *(Path(word) for word in words if word.startswith("/")),
        *filter(None, [settings.model_dir]),
    ]
    found = [path.name for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    return [*_on_volume(settings), *words, *found]


def _on_volume(settings: Settings) -> list[str]:
    """Paths of the models that are fetched at start."""
    if not settings.volume_models.exists():
        return []
    from scripts.common.fetch.volume_models import read_list

    return [model.path for model in read_list(settings.volume_models)]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
