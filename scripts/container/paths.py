"""Choose folders: those that are searched for models, and those that the worker can write to.

It may have been started as root, as any user or read-only.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.common.models.kinds import KINDS
from scripts.common.models.model_search import ModelBase, list_volume_bases
from scripts.common.pip_cache.log_statistics import RUNS
from scripts.container.log import log
from scripts.container.settings import Settings

_PROBE_BYTES: Final = 64 * 1024
_EXTENSION_PLACES: Final = ("extensions", "stable-diffusion-webui/extensions")  # on a volume
_MODEL_CACHE: Final = "huggingface-cache"  # folder of RunPod's cached models
_EXTENSION_PACKAGES: Final = ".cache/a1111/extensions"  # likewise


def find_write_error(folder: Path) -> str:
    """Create a folder if it is missing; return why it cannot be written to, empty if it can."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Not empty: a full file system still takes empty files.
            probe.write_bytes(b"\0" * _PROBE_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def is_volume(folder: Path) -> bool:
    """Return whether a volume is mounted at a folder; RunPod's cache of models alone is none.

    Cached models lie at the network volume's mount point, also where there is no such volume
    (https://docs.runpod.io/serverless/endpoints/model-caching).
    """
    try:
        if [each.name for each in folder.iterdir()] != [_MODEL_CACHE]:
            return True
    except OSError:
        return _is_folder(folder)
    return os.path.ismount(folder) and os.access(folder, os.W_OK)


def _is_on_missing_volume(folder: Path, volume: Path) -> bool:
    return folder.is_relative_to(volume) and not is_volume(volume)


def list_own_folders(settings: Settings) -> list[Path]:
    """Return the folders that the serving user must own, without those on a missing volume.

    A data folder on a volume is left out: it may be a user's install, whose files stay theirs.
    """
    folders = [settings.worker_dir, settings.pip_cache_dir]
    if not _find_volume(settings.data_dir, settings):
        folders.append(settings.data_dir)
    return [folder for folder in folders if not _is_on_missing_volume(folder, settings.volume_dir)]


def _find_volume(folder: Path, settings: Settings) -> Path | None:
    """Return the mount point of the volume that a folder belongs to."""
    volumes = (settings.volume_dir, settings.pod_volume_dir)
    return next((volume for volume in volumes if folder.is_relative_to(volume)), None)


def list_volumes(settings: Settings) -> list[Path]:
    """Return the mount points of volumes, in order of precedence."""
    return list(dict.fromkeys((settings.volume_dir, settings.pod_volume_dir)))


def list_volume_extensions(settings: Settings) -> list[Path]:
    """Return the folders of extensions on volumes; none where VOLUME_EXTENSIONS is off.

    They are those of the layouts that models are found in, see `list_volume_bases`.
    """
    if settings.volume_extensions == "off":
        return []
    return [root / place for root in list_volumes(settings) for place in _EXTENSION_PLACES]


def list_bases(settings: Settings) -> list[ModelBase]:
    """Return the folders to search for models; of a name the first one is used."""
    data, model_dir = settings.data_dir, settings.model_dir
    bases = [ModelBase(data, data, "a1111", "data-folder")]
    if model_dir:
        inside = PurePosixPath(KINDS["checkpoint"].folder)
        bases.append(ModelBase(model_dir, model_dir, "a1111", "model-dir", inside=inside))
    for root in list_volumes(settings):
        bases += list_volume_bases(root)
    image, webui = settings.image_models, settings.webui_dir
    bases += [
        ModelBase(image, image, "image", "image"),
        ModelBase(webui, webui, "a1111", "image", known_only=True),
    ]
    return bases


def list_volume_models(settings: Settings) -> list[Path]:
    """Return the paths of the models that are fetched at start."""
    if not settings.volume_models.exists():
        return []
    from scripts.common.fetch.volume_models import read_list

    return [Path(path) for path in read_list(settings.volume_models)]


def choose_job_models_folder(settings: Settings) -> Path:
    """Return the folder of the models that jobs have downloaded.

    On the volume, where all workers share it; without a volume in WORKER_DIR, so it ends with the
    container.
    """
    return _choose_shared_folder(settings, "job-models")


def find_hub_reference(settings: Settings) -> HubReference | None:
    """Return the file of the Hub that MODEL_PATH names; None if it names a path or a model."""
    text = str(settings.model_path)
    return HubReference.parse(text) if text.startswith("hub:") else None


def choose_hub_folder(settings: Settings) -> Path:
    """Return the folder of checkpoints that are downloaded from the Hub, likewise."""
    return _choose_shared_folder(settings, "hub")


def _choose_shared_folder(settings: Settings, name: str) -> Path:
    if is_volume(settings.volume_dir):
        return settings.volume_dir / ".cache/a1111" / name
    return settings.worker_dir / name


def list_packages_folders(settings: Settings) -> list[Path]:
    """Return the folders of the packages that extensions on volumes need, the one to fill first.

    They are on volumes, where all workers share them. Where none can be written to, the first one
    is in WORKER_DIR, so that each container installs anew what no volume has, which is logged.
    """
    volumes = filter(_is_folder, list_volumes(settings))
    folders = [volume / _EXTENSION_PACKAGES for volume in volumes]
    errors = {folder: find_write_error(folder) for folder in folders}
    for folder, reason in errors.items():
        if not reason:
            return [folder, *(other for other in folders if other != folder)]
    own = _create(settings.worker_dir / "extension-packages")
    reason = next(iter(errors.values()), "no volume is mounted")
    log("packages-ephemeral", level="warning", folder=own, reason=reason)
    return [own, *folders]


def list_shared_folders(settings: Settings) -> list[Path]:
    """Return the folders on volumes in which the serving user must be able to create files."""
    folders = {path.parent for path in list_volume_models(settings)}
    volume = _find_volume(settings.data_dir, settings)
    if volume and volume.is_dir():
        folders.add(settings.data_dir)
    if find_hub_reference(settings):
        folders.add(choose_hub_folder(settings))
    if settings.job_downloads:
        folders.add(choose_job_models_folder(settings))
    for folder in filter(_is_folder, list_volume_extensions(settings)):
        volume = _find_volume(folder, settings) or folder.parent
        folders.add(volume / _EXTENSION_PACKAGES)
    return sorted(folders)


def require_writable(settings: Settings) -> None:
    """Check the folders that nothing works without.

    Raises:
        UserError: one cannot be written to (code `not-writable`).
    """
    for folder in (settings.worker_dir, settings.data_dir):
        if reason := find_write_error(folder):
            raise UserError(location=f"{folder}: {reason}", code="not-writable")


def choose_home(settings: Settings, configured: str) -> Path:
    """Return a home folder that can be written to: libraries keep caches there."""
    if configured not in ("", "/") and not find_write_error(Path(configured)):
        return Path(configured)
    return _create(settings.worker_dir / "home")


def choose_pip_cache(settings: Settings) -> Path:
    """Return pip's cache on the volume, or log a warning and return one inside the container."""
    configured = settings.pip_cache_dir
    if _is_on_missing_volume(configured, settings.volume_dir):
        reason = f"{settings.volume_dir} is not mounted"
    else:
        reason = find_write_error(configured / RUNS)
    if not reason:
        return configured
    log("pip-cache-ephemeral", level="warning", wanted=configured, reason=reason)
    return _create(settings.worker_dir / "pip-cache" / RUNS).parent


def _is_folder(path: Path) -> bool:
    """Return whether a folder is there; False also where that cannot be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _create(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
