"""Read and write `config.lock.yaml`: what the network answered; resolve base images and sources.

Written by `invoke pin`, and for a plain URL by trust on first use.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import partial_path
from scripts.common.files import open_locked, write_atomically
from scripts.host.config.extension_schema import Extension
from scripts.host.config.grammar import Commit, Digest, Sha256, Snapshot
from scripts.host.config.layers import read_layer, validation_error
from scripts.host.config.model_schema import Section
from scripts.host.config.schema import GitSource

LOCK_NAME = "config.lock.yaml"

_HEADING = """\
# What the network answered: image digests, commits, model revisions and checksums; and the day that
# system packages are of.
# Written by `invoke pin`; choices belong in config.yaml.
"""


class LockedFile(Section):
    """One file of a model."""

    sha256: Sha256
    size: int = Field(ge=0)
    """Bytes."""


class LockedModel(Section):
    """A model as it was found; valid only while the config has the same source and files."""

    source: str
    """hub:owner/repo@revision, or the URL."""
    revision: Commit | None = None
    """Commit of the Hub repository."""
    files: dict[str, LockedFile]
    """By name in the repository or URL."""


class Lock(Section):
    """All of `config.lock.yaml`; a missing entry is unpinned."""

    images: dict[str, Digest] = Field(default_factory=dict)
    """Configured reference to sha256:… digest."""
    sources: dict[str, Commit] = Field(default_factory=dict)
    """owner/name@ref to commit, for sources and extensions without one."""
    models: dict[str, LockedModel] = Field(default_factory=dict)
    """By model name."""
    snapshot: Snapshot | None = None
    """Time of the distribution's archive that system packages are from."""


def read_lock(root: Path) -> Lock:
    """Read the lock of a checkout; an empty one if there is no file.

    Raises:
        UserError: it is not YAML, or not a lock; `invoke pin` does not overwrite it either.
    """
    path = root / LOCK_NAME
    if not path.exists():
        return Lock()
    hint = "restore it from version control; or delete it, then run: invoke pin"
    try:
        layer = read_layer(path, LOCK_NAME)
    except UserError as error:
        raise UserError(
            f"the lock is broken: {error.message}", location=error.location, hint=hint
        ) from None
    try:
        return Lock.model_validate(layer.tree)
    except ValidationError as error:
        raise validation_error(error, layer, name="the lock", hint=hint) from None


def update_lock(root: Path, change: Callable[[Lock], Lock]) -> tuple[Lock, Lock]:
    """Replace the lock of a checkout in one step.

    One process at a time: a second one starts from what the first one wrote.

    Args:
        root: the checkout.
        change: makes the new lock from the present one.

    Returns:
        The lock before and after.

    Raises:
        UserError: it cannot be read or written; it is unchanged.
    """
    import yaml

    path = root / LOCK_NAME
    guard = partial_path(path)
    try:
        with os.fdopen(open_locked(guard, without_locks=True)):
            try:
                before = read_lock(root)
                after = change(before)
                text = _HEADING + yaml.safe_dump(after.model_dump())
                write_atomically(path, text, is_durable=True)
            finally:
                guard.unlink(missing_ok=True)
    except OSError as error:
        raise lock_write_error(error, LOCK_NAME) from None
    return before, after


def lock_write_error(error: OSError, location: str) -> UserError:
    """Map an error of writing a lock to a UserError."""
    return UserError(
        f"the lock cannot be written: {error.strerror}; it is unchanged",
        location=location,
        hint="free space, or make the checkout writable",
    )


@dataclass(frozen=True)
class ResolvedBase:
    """A base image.

    Args:
        name: as the config has it, without a digest.
        digest: `sha256:…` from config or lock; empty when unpinned.
        reference: as `FROM` takes it, with digest and registry mirror.
    """

    name: str
    digest: str
    reference: str


@dataclass(frozen=True)
class ResolvedSource:
    """A git repository that the image contains.

    Args:
        name: key under `a1111.sources`.
        repo: owner/name under `mirrors.github`, or a URL.
        ref: what an unpinned build fetches: the release's tag for the WebUI, else HEAD.
        commit: from config or lock; empty when unpinned.
    """

    name: str
    repo: str
    ref: str
    commit: str

    @property
    def lock_key(self) -> str:
        """Key of the source's commit in the lock."""
        return f"{self.repo}@{self.ref}"


def resolve_base(configured: str, lock: Lock, registry: str | None) -> ResolvedBase:
    """Pin a base image by the lock, and address it through a registry mirror.

    The rules for short names are Docker's: no host means docker.io, no slash means `library/`.

    Args:
        configured: reference in the config.
        lock: `Lock()` for the unpinned reference.
        registry: the mirror that serves Docker Hub's images; None for none.
    """
    name, _, written = configured.partition("@")
    digest = written or lock.images.get(name, "")
    pinned = f"{name}@{digest}" if digest else name
    short = pinned.removeprefix("docker.io/")
    host, slash, _ = short.partition("/")
    if not registry or (slash and ("." in host or ":" in host or host == "localhost")):
        return ResolvedBase(name, digest, pinned)
    return ResolvedBase(name, digest, f"{registry}/{short if slash else f'library/{short}'}")


def resolve_source(name: str, source: GitSource, release: str, lock: Lock) -> ResolvedSource:
    """Pin a git repository by the config, else by the lock."""
    unpinned = ResolvedSource(name, source.repo, release if name == "webui" else "HEAD", "")
    commit = source.commit or lock.sources.get(unpinned.lock_key, "")
    return replace(unpinned, commit=commit)


@dataclass(frozen=True)
class ResolvedExtension:
    """An extension that the image contains.

    Args:
        extension: as the config has it.
        commit: from config or lock; empty when unpinned.
    """

    extension: Extension
    commit: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.extension.folder_name

    @property
    def repo(self) -> str:
        """owner/name under `mirrors.github`, or a URL."""
        return self.extension.repo

    @property
    def lock_key(self) -> str:
        """Key of its commit in the lock."""
        return f"{self.repo}@{self.extension.ref}"

    @property
    def archive_key(self) -> str:
        """Immutable name of its archive in the store; 1 is the archive's format."""
        return f"extension-1:{self.repo}@{self.commit}"


def resolve_extension(extension: Extension, lock: Lock) -> ResolvedExtension:
    """Pin an extension by the config, else by the lock."""
    unpinned = ResolvedExtension(extension, extension.pinned_commit)
    return replace(unpinned, commit=unpinned.commit or lock.sources.get(unpinned.lock_key, ""))
