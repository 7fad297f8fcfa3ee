"""Find the checkpoint that `MODEL_PATH=hub:owner/repo/file[@revision]` names, or download it.

RunPod puts cached models into one of two layouts below `HUB_CACHES`:

    models--OWNER--REPO/snapshots/COMMIT/FILE      with refs/REVISION; the cache of the Hub's client
    OWNER/REPO/REVISION/FILE                       with the commit in MODEL_REVISION

Sources: https://docs.runpod.io/serverless/endpoints/model-caching; `apps/model.py` of `runpod`
2.0.0rc2.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.files import write_atomically
from scripts.container.log import log
from scripts.container.paths import choose_hub_folder, find_hub_reference
from scripts.container.settings import Settings

_RECORD: Final = "hub-checkpoint.json"  # in WORKER_DIR: what was verified in this container
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def with_hub_path(settings: Settings) -> Settings:
    """Return settings in which MODEL_PATH is the file that a reference to the Hub means.

    It is the file that this container has verified; before that, the first one that is cached.
    Unchanged where MODEL_PATH is no such reference, or its file is nowhere.
    """
    reference = find_hub_reference(settings)
    if reference is None:
        return settings
    record = _read_record(settings)
    path = Path(record["path"]) if record else next(_find_cached(settings, reference), None)
    return replace(settings, model_path=path) if path else settings


def prepare_hub_checkpoint(settings: Settings, on_progress: Callable[[str], None]) -> None:
    """Verify the cached file that MODEL_PATH names, once a container; download it if there is none.

    What it must be is in the image's list of cached models, which the build makes from the lock;
    for a file that is not in it, the Hub's own record counts, and in the Hub's cache the file's
    link to its checksum. A download goes to the volume, or to WORKER_DIR where there is none.

    Args:
        settings: of the worker.
        on_progress: called with what takes long.

    Raises:
        UserError: it is not cached and cannot be downloaded, or is not what it must be.
        OSError: a folder cannot be read or written.
    """
    reference = find_hub_reference(settings)
    if reference is None or _read_record(settings):
        return
    spec = _find_locked(settings, reference)
    for path in _find_cached(settings, reference, any_revision=spec is not None):
        on_progress(f"verifying {path}")
        try:
            sha256 = _verify_cached(path, spec)
        except (UserError, OSError) as error:
            log("cached-model-unusable", level="warning", path=path, reason=str(error))
            continue
        log("cached-model", path=path, sha256=sha256[:16] or "unknown", locked=bool(spec))
        _write_record(settings, path)
        return
    from scripts.common.fetch.hub_record import ask_hub
    from scripts.common.fetch.spec import RetryPolicy
    from scripts.common.fetch.transfer import fetch_verified
    from scripts.common.secrets import read_token

    on_progress(f"downloading {reference}")
    spec = spec or ask_hub(reference, settings.hf_endpoint, RetryPolicy())
    # The WebUI lists it by the name of its file, as where it is cached.
    spec = replace(spec, kind="checkpoint", name=PurePosixPath(reference.file).name)
    digest = spec.sha256 or spec.git_blob
    dest = choose_hub_folder(settings) / reference.cache_folder / digest / spec.name
    file = fetch_verified(spec, dest, token=read_token(spec.token_variable))
    log("model-from-hub", path=dest, state=file.state, seconds=file.seconds)
    _write_record(settings, dest)


def _find_cached(
    settings: Settings, reference: HubReference, *, any_revision: bool = False
) -> Iterator[Path]:
    """Yield the files of a reference in all caches, the likeliest first.

    Args:
        settings: name the caches.
        reference: the file.
        any_revision: also those of other revisions, which may be the same file.
    """
    for cache in settings.hub_caches:
        client, store = cache / reference.cache_folder, cache / reference.repo
        snapshots = [
            *_list_snapshots(client, reference.revision),
            *_list_revisions(store, reference.revision),
        ]
        if any_revision:
            snapshots += [*_list_folders(client / "snapshots"), *_list_folders(store)]
        for snapshot in dict.fromkeys(snapshots):
            try:
                if (snapshot / reference.file).is_file():
                    yield snapshot / reference.file
            except OSError as error:
                log("cache-unreadable", level="warning", path=snapshot, reason=str(error))


def _list_snapshots(folder: Path, revision: str) -> list[Path]:
    """Return the folder of a revision in the layout of the Hub's client.

    Without a revision: that of `main`, and where no file names it, each one.
    """
    try:
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = revision
    if commit:
        return [folder / "snapshots" / commit]
    return _list_folders(folder / "snapshots")


def _list_revisions(folder: Path, revision: str) -> list[Path]:
    """Return the folders of a revision in RunPod's own layout."""
    commit = os.environ.get("MODEL_REVISION", "").strip()
    named = [folder / each for each in dict.fromkeys((revision or "main", commit)) if each]
    return named if revision else [*named, *_list_folders(folder)]


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return []


def _find_locked(settings: Settings, reference: HubReference) -> ArtifactSpec | None:
    """Return what the image's list expects of a file; None if it is not in it."""
    if not settings.cached_models.exists():
        return None
    from scripts.common.fetch.volume_models import read_list

    rows = read_list(settings.cached_models, settings.hf_endpoint)
    found = (spec for key, spec in rows.items() if HubReference.parse(key).matches(reference))
    return next(found, None)


def _verify_cached(path: Path, spec: ArtifactSpec | None) -> str:
    """Check a cached file without changing it; return its SHA-256, empty if nothing names one.

    Raises:
        UserError: it is not what it must be.
        OSError: it cannot be read.
    """
    from scripts.common.fetch.file_format import check_structure
    from scripts.common.fetch.hashing import sha256_of

    allow_pickle = bool(spec and spec.allow_pickle)
    check_structure(path, path.name, kind="checkpoint", allow_pickle=allow_pickle)
    if spec and spec.size not in (None, path.stat().st_size):
        message = f"it has {path.stat().st_size} bytes, expected {spec.size}"
        raise UserError(message, location=str(path), code="model-damaged")
    # Files in the cache of the Hub's client are links; the name of a large one is its SHA-256.
    blob = path.resolve().name
    expected = spec.sha256 if spec else blob if _SHA256.fullmatch(blob) else ""
    if not expected:
        return ""
    if (found := sha256_of(path)) != expected:
        message = f"its sha256 is {found[:16]}…, expected {expected[:16]}…"
        raise UserError(message, location=str(path), code="model-damaged")
    return expected


def _write_record(settings: Settings, path: Path) -> None:
    record = {"model_path": str(settings.model_path), "path": str(path), **_identify(path)}
    write_atomically(settings.worker_dir / _RECORD, json.dumps(record))


def _read_record(settings: Settings) -> dict[str, Any] | None:
    """Return what this container has verified; None where nothing was, or the file has changed."""
    try:
        record = json.loads((settings.worker_dir / _RECORD).read_text(encoding="utf-8"))
        expected = {"model_path": str(settings.model_path), **_identify(Path(record["path"]))}
        return record if record.items() >= expected.items() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _identify(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
