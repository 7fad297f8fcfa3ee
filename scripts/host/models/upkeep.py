"""Looks after the store: verifies every object, and finds what no config wants any more."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ProgressCallback, silent
from scripts.common.fetch.hashing import sha256_of
from scripts.common.fetch.stamps import stamp_path
from scripts.common.files import is_locked
from scripts.host.concurrently import run_concurrently
from scripts.host.config.load import LoadedConfig, load
from scripts.host.models.artifacts import items_of
from scripts.host.models.store import CONTEXT_PREFIX, Store


@dataclass(frozen=True)
class Checked:
    """An object after verification.

    Args:
        path: the object.
        models: which ones it belongs to.
        size: bytes.
        damage: what is wrong; empty when nothing is.
    """

    path: Path
    models: tuple[str, ...]
    size: int
    damage: str


@dataclass(frozen=True)
class Waste:
    """Something that may be deleted.

    Args:
        path: a file or folder.
        size: bytes that deleting it frees.
        why: what it is.
    """

    path: Path
    size: int
    why: str


def verify(
    store: Store, watch: Callable[[Path], ProgressCallback] = lambda _: silent
) -> list[Checked]:
    """Read every object and compare it with its name; several at once, one for each core.

    Args:
        store: the store.
        watch: makes the `ProgressCallback` of an object.
    """
    models: dict[int, set[str]] = defaultdict(set)
    for name in store.names():
        models[name.stat().st_ino].add(name.relative_to(store.root / "names").parts[0])

    def check(path: Path) -> Checked:
        tell = watch(path)
        try:
            stat = path.stat()
            found = sha256_of(path, lambda done: tell("verifying", done, stat.st_size))
        except OSError as error:
            tell("damaged", 0, None)
            return Checked(path, (), 0, f"cannot be read: {error.strerror}")
        is_whole = found == path.name
        tell("verified" if is_whole else "damaged", stat.st_size, stat.st_size)
        damage = "" if is_whole else f"its sha256 is {found[:16]}…"
        if damage:
            stamp_path(path).unlink(missing_ok=True)  # whatever it says, it is not true
        return Checked(path, tuple(sorted(models[stat.st_ino])), stat.st_size, damage)

    work = {path: partial(check, path) for path in store.objects()}
    done = dict(run_concurrently(work, os.cpu_count() or 1))
    return [each for path in work if isinstance(each := done[path], Checked)]


def wanted_by(loaded: LoadedConfig, store: Store) -> set[str]:
    """SHA-256 of everything that a config wants."""
    items = (item for model in loaded.config.models for item in items_of(model, loaded))
    return {item.wanted.sha256 or store.recall(item.origin or "") for item in items}


def _wanted_in(root: Path, store: Store, environment: Mapping[str, str]) -> set[str]:
    """SHA-256 of everything that any variant of a checkout wants."""
    variants = load(root=root, environment=environment).config.variants
    configs = (load(variant, root=root, environment=environment) for variant in variants)
    return {sha256 for config in configs for sha256 in wanted_by(config, store)}


def waste(loaded: LoadedConfig) -> list[Waste]:
    """What no variant of any checkout that uses this store wants.

    Args:
        loaded: this checkout; the others are those that have prefetched into the store.

    Raises:
        UserError: the config of one of them cannot be read, so that what it wants is not known.
    """
    store = Store(loaded.store)
    wanted = wanted_by(loaded, store) | _wanted_in(loaded.root, store, os.environ)
    for root in {loaded.root, *store.checkouts()}:
        if (root / "config.yaml").exists():  # by its files only: IMAGE_CONFIG is not about them
            wanted |= _wanted_in(root, store, {})
    kept = {path.stat().st_ino for path in store.objects() if path.name in wanted}
    return [
        *(
            Waste(path, path.stat().st_size, "no config names it")
            for path in store.objects()
            if path.name not in wanted
        ),
        *(
            Waste(path, 0, "a name of what no config names")
            for path in store.names()
            if path.stat().st_ino not in kept
        ),
        *(
            Waste(path, path.stat().st_size, "an unfinished download")
            for path in store.partials()
            if path.name.split(".")[0] not in wanted and not is_locked(path)
        ),
        *(
            Waste(path, 0, "left behind by a build that was killed")
            for path in store.root.glob(f"{CONTEXT_PREFIX}*")
            if not is_locked(path)
        ),
    ]


def delete(rubbish: list[Waste], store: Store) -> None:
    """Delete what `waste` found.

    Raises:
        UserError: the store cannot be written to.
    """
    try:
        for each in rubbish:
            if each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                each.path.unlink(missing_ok=True)
                stamp_path(each.path).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot delete: {error.strerror}",
            location=str(store.root),
            hint="check the store's permissions",
            code="store-unwritable",
        ) from None
