"""Verify every object of the store, and find and delete what no config names any more."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import filterfalse
from pathlib import Path

from scripts.common.concurrently import run_concurrently
from scripts.common.fetch.hashing import sha256_of
from scripts.common.fetch.partial import store_error
from scripts.common.fetch.spec import ProgressCallback, no_progress
from scripts.common.fetch.stamps import stamp_path
from scripts.common.files import is_locked
from scripts.host.config.load import LoadedConfig, load_variants
from scripts.host.config.lock import resolve_extension
from scripts.host.models.artifacts import artifacts_of
from scripts.host.models.store import CONTEXT_PREFIX, Store


@dataclass(frozen=True)
class CheckedObject:
    """An object after verification.

    Args:
        path: the object.
        models: models it belongs to.
        size: bytes.
        damage: what is wrong; empty if nothing is.
    """

    path: Path
    models: tuple[str, ...]
    size: int
    damage: str


@dataclass(frozen=True)
class Unused:
    """A file or folder of the store that may be deleted.

    Args:
        path: the file or folder.
        size: bytes that deleting it frees.
        reason: why it may be deleted.
    """

    path: Path
    size: int
    reason: str


def verify_objects(
    store: Store, progress: Callable[[Path], ProgressCallback] = lambda _: no_progress
) -> list[CheckedObject]:
    """Read every object and compare it with its name, one on each core at once.

    Args:
        store: the store.
        progress: makes the `ProgressCallback` of an object.
    """
    models: dict[int, set[str]] = defaultdict(set)
    for name in store.names():
        models[name.stat().st_ino].add(name.relative_to(store.root / "names").parts[0])

    def check(path: Path) -> CheckedObject:
        on_progress = progress(path)
        try:
            stat = path.stat()
            found = sha256_of(path, lambda done: on_progress("verifying", done, stat.st_size))
        except OSError as error:
            on_progress("damaged", 0, None)
            return CheckedObject(path, (), 0, f"cannot be read: {error.strerror}")
        is_whole = found == path.name
        on_progress("verified" if is_whole else "damaged", stat.st_size, stat.st_size)
        damage = "" if is_whole else f"its sha256 is {found[:16]}…"
        if damage:
            stamp_path(path).unlink(missing_ok=True)  # it is not true
        return CheckedObject(path, tuple(sorted(models[stat.st_ino])), stat.st_size, damage)

    work = {path: partial(check, path) for path in store.objects()}
    done = dict(run_concurrently(work, os.cpu_count() or 1))
    return [each for path in work if isinstance(each := done[path], CheckedObject)]


def find_unused(loaded: LoadedConfig, store: Store) -> list[Unused]:
    """Find what no variant of any checkout that uses this store names.

    Args:
        loaded: this checkout; the others are those that have prefetched into the store.
        store: the store.

    Raises:
        UserError: the config of one of them cannot be read, so its models are not known.
    """
    used = _used_by(loaded, store) | _used_in(loaded.root, store, os.environ)
    for root in {loaded.root, *store.checkouts()}:
        if (root / "config.yaml").exists():  # by its files only: IMAGE_CONFIG is not about them
            used |= _used_in(root, store, {})
    kept = {path.stat().st_ino for path in store.objects() if path.name in used}
    objects = (path for path in store.objects() if path.name not in used)
    names = (path for path in store.names() if path.stat().st_ino not in kept)
    partials = (path for path in store.partials() if path.name.split(".")[0] not in used)
    contexts = store.root.glob(f"{CONTEXT_PREFIX}*")
    found = (  # links free nothing
        (objects, "no config names it", True),
        (names, "a name of what no config names", False),
        (filterfalse(is_locked, partials), "an unfinished download", True),
        (filterfalse(is_locked, contexts), "left behind by a build that was killed", False),
    )
    return [
        Unused(path, path.stat().st_size if frees else 0, reason)
        for paths, reason, frees in found
        for path in paths
    ]


def delete(paths: Iterable[Path]) -> None:
    """Delete files and folders of a store, and the files' stamps.

    Raises:
        UserError: the store cannot be written to.
    """
    try:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
                stamp_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise store_error(error, path) from None


def _used_by(loaded: LoadedConfig, store: Store) -> set[str]:
    """Return the SHA-256 of every model file of a config, and of its extensions' archives."""
    extensions = (resolve_extension(each, loaded.lock) for each in loaded.config.extensions)
    archives = {store.recall(each.archive_key) for each in extensions}
    models = artifacts_of(loaded, loaded.config.all_models)
    return archives | {store.known_sha256(each) for each in models}


def _used_in(root: Path, store: Store, environment: Mapping[str, str]) -> set[str]:
    """Return the SHA-256 of what any variant of a checkout uses."""
    variants = load_variants(root=root, environment=environment)
    return {sha256 for loaded in variants for sha256 in _used_by(loaded, store)}
