"""The named build context `models`: a tree of links into the store, shaped like the image.

`/model.safetensors` is the checkpoint; everything else lies below `/extra` at its absolute path.
Modes and times are the same on every machine, so the layer made of it is, too; each file's time
stands for its content (`layer_time`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.fetch.volume_models import LIST, VolumeModel, as_json
from scripts.common.files import shared_lock
from scripts.host.config.load import LoadedConfig
from scripts.host.config.schema import HubSource
from scripts.host.models.artifacts import Item, items_of
from scripts.host.models.prefetch import Result
from scripts.host.models.store import CONTEXT_PREFIX, Store, place
from scripts.host.models.tokens import variable_for

CHECKPOINT = PurePosixPath("/model.safetensors")


@contextmanager
def staged_context(loaded: LoadedConfig, results: Iterable[Result]) -> Iterator[Path]:
    """`stage_context` in a folder beside the store's objects, removed when the block ends."""
    root = Store(loaded.store).root
    parent = root if os.access(root, os.W_OK) else None  # elsewhere links become copies
    folder = Path(tempfile.mkdtemp(prefix=CONTEXT_PREFIX, dir=parent))
    try:
        with shared_lock(folder):
            yield stage_context(loaded, results, folder)
    finally:
        shutil.rmtree(folder)


def stage_context(loaded: LoadedConfig, results: Iterable[Result], dest: Path) -> Path:
    """Lay out the files of `prefetch` as the image will have them.

    Args:
        loaded: config and lock.
        results: of `prefetch`.
        dest: an empty folder, best on the store's file system.

    Returns:
        `dest`.

    Raises:
        UserError: a volume model is not pinned, or a Hub revision is not known.
    """
    (dest / "extra").mkdir(parents=True)
    for result in results:
        path = _in_context(dest, image_path(result.item))
        path.parent.mkdir(parents=True, exist_ok=True)
        place(result.path, path)
        _write_ref(dest, result.item)
    volume = volume_models(loaded)
    if volume:
        _write(_in_context(dest, PurePosixPath(LIST)), as_json(volume))
    for folder, _, _ in os.walk(dest, topdown=False):
        Path(folder).chmod(0o755)
        os.utime(folder, (0, 0))
    return dest


def image_path(item: Item) -> PurePosixPath:
    """Where a file lies in the image.

    The Hub cache's layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    if item.model.layout == "file":
        return PurePosixPath(item.model.path)
    return _cache_folder(item) / "snapshots" / _commit(item) / item.file


def volume_models(loaded: LoadedConfig) -> tuple[VolumeModel, ...]:
    """What the worker has to fetch at its first start.

    Raises:
        UserError: one of them is not pinned: a worker must not trust on first use.
    """
    models = [model for model in loaded.config.models if model.placement == "volume"]
    return tuple(_volume_model(item) for model in models for item in items_of(model, loaded))


def _volume_model(item: Item) -> VolumeModel:
    if not item.is_pinned:
        raise UserError(
            f"the volume model {item.model.name} is not pinned",
            location="config.lock.yaml",
            hint="run: invoke pin",
        )
    return VolumeModel(item.model.name, str(image_path(item)), item.wanted, variable_for(item))


def _cache_folder(item: Item) -> PurePosixPath:
    source = item.model.source
    if not isinstance(source, HubSource):
        raise UserError(
            f"{item.model.name}: layout hub-cache needs a Hub source", location="config.yaml"
        )
    return PurePosixPath(item.model.path) / f"models--{source.hub.replace('/', '--')}"


def _commit(item: Item) -> str:
    if item.origin is None:
        raise UserError(
            f"{item.model.name}: the Hub cache needs a commit, not {item.revision}",
            location="config.yaml",
            hint="run: invoke pin",
        )
    return item.revision


def _write_ref(dest: Path, item: Item) -> None:
    """`refs/main`, by which the Hub's client finds the snapshot without a network.

    `version.txt` keeps transformers 4.30 from trying to convert the cache at every start.
    """
    if item.model.layout == "hub-cache":
        folder = _cache_folder(item)
        _write(_in_context(dest, folder / "refs" / "main"), _commit(item))
        _write(_in_context(dest, folder.parent / "version.txt"), "1")


def _in_context(dest: Path, path: PurePosixPath) -> Path:
    return dest / "model.safetensors" if path == CHECKPOINT else dest / "extra" / str(path)[1:]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    os.utime(path, (layer_time(sha256_of(path)),) * 2)
