"""Download missing artifacts into the store, several at once, and verify every one."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ProgressCallback, RetryPolicy, VerifiedFile
from scripts.host.config.lock import LockedFile, LockedModel, update_lock
from scripts.host.models.artifacts import Artifact
from scripts.host.models.hub_client import Hub, fill_partial, find_token, resolve_at_hub
from scripts.host.models.models_display import Display
from scripts.host.models.store import Store, StoredFiles


@dataclass(frozen=True)
class PrefetchOptions:
    """Settings of one prefetch.

    Args:
        checkout: checkout that uses the store; its lock gets what is trusted on first use.
        hub: the Hub.
        concurrency: downloads at once.
        policy: retries, timeouts and certificates; by default with the Hub's.
        rehash: ignore the stamps and read every file.
        trust_on_first_use: accept unpinned URLs and write their SHA-256 into the lock.
        display: shows progress and warnings.
    """

    checkout: Path
    hub: Hub
    concurrency: int
    rehash: bool = False
    trust_on_first_use: bool = False
    display: Display = field(default_factory=Display)
    policy: RetryPolicy | None = None


def prefetch(
    artifacts: Sequence[Artifact],
    store: Store,
    options: PrefetchOptions,
    stored: StoredFiles | None = None,
) -> StoredFiles:
    """Make every artifact a verified file in the store.

    Args:
        artifacts: the files.
        store: the store.
        options: settings.
        stored: result of `Store.find_stored`, if it has been called.

    Returns:
        The file of each artifact, with revision and properties as found.

    Raises:
        UserError: the first failure, after the other downloads have ended.
    """
    for artifact in artifacts:
        if not (artifact.is_pinned or artifact.repo or options.trust_on_first_use):
            raise UserError(location=f"{artifact.label}, {artifact.source}", code="unpinned-url")
    stored = {} if options.rehash else stored or store.find_stored(artifacts)
    missing = [artifact for artifact in artifacts if artifact not in stored]
    _warn_unpinned(missing, options.display)
    fetched = _fetch_all(missing, store, options)
    files = dict(fetched.get(each) or (each, stored[each]) for each in artifacts)
    store.register(options.checkout)
    _name_objects(files, store, options.display)
    _write_trusted(files, options.checkout)
    return files


def verified_path(artifacts: Sequence[Artifact], store: Store) -> Path:
    """Return the path of a model's verified file, or the folder of its files; ask no network.

    Args:
        artifacts: the files of one model.
        store: the store.

    Raises:
        UserError: one of them is not in the store, or is damaged there.
    """
    name, paths = artifacts[0].model.name, []
    for artifact in artifacts:
        file = store.verify(artifact)
        if file is None:
            raise UserError(
                f"{name} has not been fetched",
                location=str(store.root),
                hint=f"run: invoke models.prefetch --name {name}",
            )
        paths.append(store.name(file.sha256, name, artifact.file))
    return paths[0] if len(paths) == 1 else store.name_path(name, "")


def _warn_unpinned(artifacts: Sequence[Artifact], display: Display) -> None:
    """Name the models that only the Hub's own checksums verify."""
    unpinned = (each for each in artifacts if each.repo and not each.is_pinned)
    for name in dict.fromkeys(each.model.name for each in unpinned):
        display.warn(f"{name} is not pinned; trusting the Hub's own checksums - run: invoke pin")


def _name_objects(files: StoredFiles, store: Store, display: Display) -> None:
    """Give every object its name; warn if the store is only read."""
    try:
        for artifact, file in files.items():
            store.name(file.sha256, artifact.model.name, artifact.file)
    except UserError as error:
        display.warn(f"the models are there, but not under their names: {error.message}")


class _Stopped(Exception):  # noqa: N818 - ends a download after an interrupt
    pass


def _fetch_all(
    artifacts: Sequence[Artifact], store: Store, options: PrefetchOptions
) -> dict[Artifact, tuple[Artifact, VerifiedFile]]:
    """Fetch several at once; a failure lets the others end, an interrupt stops them."""
    stop, done, failures = threading.Event(), {}, []
    progress = {each: _stoppable(options.display.progress(each), stop) for each in artifacts}
    for artifact, on_progress in progress.items():
        on_progress("queued", 0, artifact.spec.size)
    work = {
        artifact: partial(_fetch, artifact, store, options, on_progress)
        for artifact, on_progress in progress.items()
    }
    try:
        for artifact, result in run_concurrently(work, options.concurrency):
            if isinstance(result, UserError):
                failures.append(result)
                progress[artifact]("failed", 0, artifact.spec.size)
            else:
                done[artifact] = result
                file = result[1]
                progress[artifact](file.state, file.size, file.size)
    except BaseException:
        stop.set()
        raise
    for other in failures[1:]:
        options.display.warn(str(other))
    if failures:
        raise failures[0]
    return done


def _stoppable(on_progress: ProgressCallback, stop: threading.Event) -> ProgressCallback:
    def report(state: str, done: int, total: int | None, detail: str = "") -> None:
        if stop.is_set():
            raise _Stopped
        on_progress(state, done, total, detail)

    return report


def _fetch(
    artifact: Artifact, store: Store, options: PrefetchOptions, on_progress: ProgressCallback
) -> tuple[Artifact, VerifiedFile]:
    from scripts.common.fetch.transfer import fetch_verified  # not needed when all is cached

    started = time.monotonic()
    if artifact.repo and not artifact.is_pinned:
        artifact = resolve_at_hub(artifact, options.hub)
    file = store.verify(artifact, rehash=options.rehash, on_progress=on_progress)
    if file is None:
        spec = artifact.spec
        if spec.sha256:
            dest = store.object_path(spec.sha256)
            is_filled = fill_partial(artifact, dest, options.hub, on_progress, options.display.warn)
        else:
            address = f"{artifact.model.source.id}@{artifact.revision}/{artifact.file}"
            dest, is_filled = store.incoming_path(address), False
        token = find_token(spec)
        policy = options.policy or RetryPolicy(ca_bundle=options.hub.ca_bundle)
        file = fetch_verified(spec, dest, policy=policy, token=token, on_progress=on_progress)
        if is_filled and file.state == "resumed":
            file = replace(file, state="fetched", received=file.size)
        if not spec.sha256:
            file = replace(file, path=store.adopt(file.path, file.sha256))
        if artifact.origin:
            store.remember(artifact.origin, file.sha256)
    return artifact, replace(file, seconds=time.monotonic() - started)


def _write_trusted(files: Mapping[Artifact, VerifiedFile], checkout: Path) -> None:
    """Write what was trusted on first use into the lock."""
    trusted = {
        artifact.model.name: LockedModel(
            source=artifact.model.source.lock_key,
            files={artifact.file: LockedFile(sha256=file.sha256, size=file.size)},
        )
        for artifact, file in files.items()
        if not artifact.is_pinned and not artifact.repo
    }
    if trusted:
        update_lock(
            checkout, lambda lock: lock.model_copy(update={"models": lock.models | trusted})
        )
