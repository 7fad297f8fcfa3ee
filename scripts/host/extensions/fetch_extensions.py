"""Make the extensions of a config verified archives of the store, several at once."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import sha256_of
from scripts.common.fetch.partial import store_error
from scripts.common.fetch.spec import ArtifactSpec, ProgressCallback, VerifiedFile
from scripts.common.fetch.stamps import verify_file
from scripts.common.files import shared_lock
from scripts.host.config.addresses import GITHUB
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import ResolvedExtension
from scripts.host.extensions.extension_archive import write_archive
from scripts.host.extensions.git_tree import RepositoryReader
from scripts.host.git_sources import GitHosts, source_url
from scripts.host.models.models_display import Display
from scripts.host.models.store import CONTEXT_PREFIX, Store

_POLL: Final = 0.5  # seconds between two looks at the size of what git has received


@dataclass(frozen=True)
class StoredExtension:
    """An extension in the store.

    Args:
        extension: with its commit.
        file: its archive, see `scripts.host.extensions.extension_archive`.
    """

    extension: ResolvedExtension
    file: VerifiedFile


def fetch_extensions(
    loaded: LoadedConfig, extensions: Sequence[ResolvedExtension], display: Display
) -> tuple[StoredExtension, ...]:
    """Fetch the extensions that the store does not have yet, and verify the others.

    Args:
        loaded: names the store, and where repositories are fetched.
        extensions: an unpinned one is fetched at what its ref is now.
        display: shows progress.

    Raises:
        UserError: git is not installed, or the first that cannot be fetched; the others are.
    """
    work = {
        each.name: partial(
            fetch_extension, loaded, each, display.labelled(each.name, {"extension": each.name})
        )
        for each in extensions
    }
    done, failures = {}, []
    for name, result in run_concurrently(work, loaded.config.store.concurrency):
        if isinstance(result, UserError):
            failures.append(result)
        else:
            done[name] = result
    for other in failures[1:]:
        display.warn(str(other))
    if failures:
        raise failures[0]
    return tuple(done[name] for name in work)


def fetch_extension(
    loaded: LoadedConfig, extension: ResolvedExtension, on_progress: ProgressCallback
) -> StoredExtension:
    """Fetch one extension unless the store has it.

    Raises:
        UserError: it cannot be fetched, is damaged in the store, or the store cannot be written.
    """
    hosts = GitHosts(loaded.config.mirrors.github, loaded.ca_bundle)
    if not extension.commit:
        commit = hosts.find_branch(extension.repo, extension.extension.ref)
        extension = replace(extension, commit=commit)
    store = Store(loaded.store)
    sha256 = store.recall(extension.archive_key)
    is_stored = bool(sha256) and store.object_path(sha256).exists()
    if not is_stored:
        sha256 = _fetch(store, hosts, extension, on_progress)
        store.name(sha256, extension.name, f"{extension.commit}.tar")
    spec = ArtifactSpec(public_url(extension.repo), "extension.tar", sha256)
    file = verify_file(spec, store.object_path(sha256), on_progress=on_progress)
    if not is_stored:
        on_progress("fetched", file.size, file.size)
    return StoredExtension(extension, file)


def public_url(repo: str) -> str:
    """Return a repository's address without a mirror."""
    return source_url(GITHUB, repo)


def _fetch(
    store: Store, hosts: GitHosts, extension: ResolvedExtension, on_progress: ProgressCallback
) -> str:
    """Fetch an extension into the store, and return the SHA-256 of its archive."""
    commit = extension.commit
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        # Below the store, so that `models.prune` finds what a killed process leaves behind.
        with tempfile.TemporaryDirectory(prefix=CONTEXT_PREFIX, dir=store.root) as folder:
            scratch, archive = Path(folder), Path(folder) / "archive.tar"
            with shared_lock(scratch), _shown_growth(scratch, on_progress):
                git = hosts.fetch(source_url(hosts.github, extension.repo), commit, scratch)
                reader = RepositoryReader(hosts, scratch)
                write_archive(archive, reader, git, public_url(extension.repo), commit)
                sha256 = sha256_of(archive)
                store.adopt(archive, sha256)
    except OSError as error:
        raise store_error(error, store.root) from None
    store.remember(extension.archive_key, sha256)
    return sha256


@contextmanager
def _shown_growth(folder: Path, on_progress: ProgressCallback) -> Iterator[None]:
    """Report the size of a folder until the block ends: git shows no bytes itself."""
    ended = threading.Event()

    def report() -> None:
        while not ended.is_set():
            on_progress("fetching", _size(folder), None)
            ended.wait(_POLL)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _size(folder: Path) -> int:
    """Return the bytes of the packs that git has received or is receiving below a folder."""
    total = 0
    for path in folder.glob("*/objects/pack/*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed meanwhile
            continue
    return total
