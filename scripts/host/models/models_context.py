"""Stage the named build context `models`: links into the store, shaped like the image.

`/model.safetensors` is the checkpoint; everything else lies below `/extra` at its absolute path.
Modes and times are the same on every machine, so the layer made of it is, too; each file's time
stands for its content (`layer_time`).
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.fetch.spec import ArtifactSpec, VerifiedFile
from scripts.common.fetch.volume_models import CACHED_LIST, LIST, as_json
from scripts.common.files import shared_lock
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.models.artifacts import Artifact
from scripts.host.models.store import CONTEXT_PREFIX, Store, place


@contextmanager
def staged_context(
    store: Store,
    files: Mapping[Artifact, VerifiedFile],
    volume: Iterable[Artifact] = (),
    cached: Iterable[Artifact] = (),
) -> Iterator[Path]:
    """Lay out files of the store as the image will have them, until the block ends.

    Args:
        store: the store; the folder is made inside it, where links cost no space.
        files: result of `prefetch`.
        volume: files that the worker downloads at its first start; the context lists them.
        cached: files that the platform caches, likewise.

    Raises:
        UserError: a model of these lists is not pinned, or a Hub revision is not known.
    """
    parent = store.root if os.access(store.root, os.W_OK) else None  # elsewhere links become copies
    folder = Path(tempfile.mkdtemp(prefix=CONTEXT_PREFIX, dir=parent))
    try:
        with shared_lock(folder):
            specs = {str(each.image_path): each.published for each in _require_pinned(volume)}
            references = {str(each.reference): each.published for each in _require_pinned(cached)}
            _stage(folder, files, {LIST: specs, CACHED_LIST: references})
            yield folder
    finally:
        shutil.rmtree(folder)


def _stage(
    folder: Path,
    files: Mapping[Artifact, VerifiedFile],
    lists: Mapping[Path, Mapping[str, ArtifactSpec]],
) -> None:
    (folder / "extra").mkdir()
    for artifact, file in files.items():
        path = _in_context(folder, artifact.image_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        place(file.path, path)
        if artifact.model.layout == "hub-cache":
            cache = artifact.cache_folder
            # By refs/main the Hub's client finds the snapshot without a network; version.txt keeps
            # transformers 4.30 from trying to convert the cache at every start.
            _write(_in_context(folder, cache / "refs" / "main"), artifact.revision)
            _write(_in_context(folder, cache.parent / "version.txt"), "1")
    for path, specs in lists.items():
        if specs:
            _write(_in_context(folder, PurePosixPath(path)), as_json(specs))
    for each, _, _ in os.walk(folder, topdown=False):
        Path(each).chmod(0o755)
        os.utime(each, (0, 0))


def _require_pinned(artifacts: Iterable[Artifact]) -> Iterator[Artifact]:
    """Yield files that a worker gets by itself; it must not trust on first use."""
    for artifact in artifacts:
        if not artifact.is_pinned:
            raise UserError(
                f"the {artifact.model.placement} model {artifact.model.name} is not pinned",
                location="config.lock.yaml",
                hint="run: invoke pin",
            )
        yield artifact


def _in_context(folder: Path, path: PurePosixPath) -> Path:
    return (
        folder / CHECKPOINT_PATH[1:]
        if str(path) == CHECKPOINT_PATH
        else folder / "extra" / str(path)[1:]
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    os.utime(path, (layer_time(sha256_of(path)),) * 2)
