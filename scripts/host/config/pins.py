"""Resolve base images and git sources: pinned by the config, else by the lock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scripts.host.config.lock import Lock
from scripts.host.config.schema import GitSource


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
