"""What the network answered: `config.lock.yaml`, written by `invoke pin` and by nothing else.

Trust on first use of a plain URL is the one other writer; it goes through the same function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import Field, ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import partial_path
from scripts.common.files import NO_LOCKS, open_locked
from scripts.host.config.explain import explained
from scripts.host.config.layers import read_layer
from scripts.host.config.schema import Commit, Digest, Section, Sha256

LOCK_NAME = "config.lock.yaml"

_HEADING = """\
# What the network answered: image digests, commits, model revisions and checksums.
# Written by `invoke pin`; choices belong in config.yaml.
"""


class LockedFile(Section):
    """One file of a model."""

    sha256: Sha256
    size: int = Field(ge=0, description="Bytes.")


class LockedModel(Section):
    """A model as it was found; valid only while the config asks for that source and files."""

    source: str = Field(description="hub:owner/repo@revision, or the URL.")
    revision: Commit | None = Field(default=None, description="Commit of the Hub repository.")
    files: dict[str, LockedFile] = Field(description="By name in the repository or URL.")


class Lock(Section):
    """The whole of `config.lock.yaml`; an absent entry means unpinned."""

    images: dict[str, Digest] = Field(
        default_factory=dict, description="Configured reference to sha256:… digest."
    )
    sources: dict[str, Commit] = Field(
        default_factory=dict, description="owner/name@ref to commit, for sources without one."
    )
    models: dict[str, LockedModel] = Field(default_factory=dict, description="By model name.")


def read_lock(root: Path) -> Lock:
    """The lock below `root`, empty where there is none.

    Raises:
        UserError: it is not YAML, or not a lock; `invoke pin` does not guess what was meant either.
    """
    path = root / LOCK_NAME
    if not path.exists():
        return Lock()
    hint = "restore it from version control; or delete it, then run: invoke pin"
    try:
        layer = read_layer(path, LOCK_NAME)
    except UserError as broken:
        raise UserError(
            f"the lock is broken: {broken.message}", location=broken.location, hint=hint
        ) from None
    try:
        return Lock.model_validate(layer.tree)
    except ValidationError as error:
        raise explained(error, layer, whole="the lock", hint=hint) from None


def update_lock(root: Path, change: Callable[[Lock], Lock]) -> tuple[Lock, Lock]:
    """Replace the lock below `root` in one step, so that it is never half written.

    One process at a time: what another one writes meanwhile is what this one's change begins from.

    Args:
        root: the checkout.
        change: makes the new lock of the present one.

    Returns:
        The lock before and after.

    Raises:
        UserError: it cannot be read or written; it is as it was.
    """
    path = root / LOCK_NAME
    partial = partial_path(path)
    try:
        with os.fdopen(_opened(partial), "w", encoding="utf-8") as stream, gone_if_unused(partial):
            before = read_lock(root)
            now = change(before)
            stream.truncate(0)
            stream.write(_HEADING + _as_yaml(now))
            stream.flush()
            os.fsync(stream.fileno())
            partial.replace(path)
    except OSError as error:
        raise not_written(error, LOCK_NAME) from None
    return before, now


def not_written(error: OSError, where: str) -> UserError:
    """The failure that an error of writing a lock is."""
    return UserError(
        f"the lock cannot be written: {error.strerror}; it is as it was",
        location=where,
        hint="free space, or make the checkout writable",
    )


def _opened(partial: Path) -> int:
    """The partial file, locked where the file system has locks."""
    try:
        return open_locked(partial)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return os.open(partial, os.O_RDWR)


@contextmanager
def gone_if_unused(partial: Path) -> Iterator[None]:
    """Remove a file that was to be renamed, if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _as_yaml(lock: Lock) -> str:
    import yaml

    return yaml.safe_dump(lock.model_dump(), sort_keys=True, default_flow_style=False)
