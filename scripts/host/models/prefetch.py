"""Has every wanted model file verified in the store: cached, or fetched now, several at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ProgressCallback, VerifiedFile, existing, fits, silent
from scripts.common.fetch.retry_policy import RetryPolicy
from scripts.common.fetch.stamps import read_stamp
from scripts.host.concurrently import run_concurrently
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock, LockedFile, LockedModel, update_lock
from scripts.host.config.schema import HubSource
from scripts.host.models.artifacts import Item, hub_url, plan
from scripts.host.models.hub import Hub, describe
from scripts.host.models.store import Store
from scripts.host.models.tokens import token_for
from scripts.host.models.xet import bring


@dataclass(frozen=True)
class Result:
    """A verified file in the store.

    Args:
        item: what was wanted, with revision and checksum as found.
        path: the object in the store.
        sha256: what it has.
        size: bytes.
        state: fetched, resumed, cached, verified or waited.
        moved: bytes that came over the network now.
        seconds: how long it took.
    """

    item: Item
    path: Path
    sha256: str
    size: int
    state: str
    moved: int
    seconds: float


@dataclass(frozen=True)
class Manner:
    """How to go about it.

    Args:
        rehash: distrust the stamps and read every file.
        trust_on_first_use: accept unpinned URLs, and write what they were into the lock.
        warn: told what a person should know.
        watch: makes the `ProgressCallback` of an item.
        line: patience with connections; None for the default.
    """

    rehash: bool = False
    trust_on_first_use: bool = False
    warn: Callable[[str], None] = lambda _: None
    watch: Callable[[Item], ProgressCallback] = lambda _: silent
    line: RetryPolicy | None = None


def prefetch(
    loaded: LoadedConfig, names: Collection[str] = (), *, manner: Manner | None = None
) -> tuple[Result, ...]:
    """Have the files of all baked-in models, or of the named ones, verified in the store.

    Args:
        loaded: config and lock.
        names: model names; empty for all with `placement: image`.
        manner: how to go about it.

    Returns:
        One result a file, in the config's order.

    Raises:
        UserError: the first one, after the other downloads have ended.
    """
    manner = manner or Manner()
    store = Store(loaded.store)
    items = plan(loaded, names)
    for item in items:
        _refuse_unpinned_url(item, trusted=manner.trust_on_first_use)
    done = {i: hit for i, item in enumerate(items) if (hit := _cached(item, store, manner))}
    missing = {i: item for i, item in enumerate(items) if i not in done}
    if missing:
        _warn_unpinned(missing.values(), manner)
        done |= _fetch_all(missing, store, loaded, manner)
    results = tuple(done[i] for i in range(len(items)))
    store.register(loaded.root)
    _name(results, store, manner)
    _write_trusted(loaded, results)
    return results


def all_cached(loaded: LoadedConfig) -> bool:
    """Whether `prefetch` would fetch nothing; asks no network and reads no model."""
    store = Store(loaded.store)
    return all(_cached(item, store, Manner()) for item in plan(loaded, ()))


def verified_path(loaded: LoadedConfig, name: str) -> Path:
    """Where a model's verified file lies, or the folder of its files; asks no network.

    Raises:
        UserError: it is not in the store, or is damaged there.
    """
    store = Store(loaded.store)
    results = []
    for item in plan(loaded, [name]):
        result = _cached(item, store, Manner()) or _reread(item, store)
        if result is None:
            raise UserError(
                f"{name} has not been fetched",
                location=str(store.root),
                hint=f"run: invoke models.prefetch --name {name}",
            )
        results.append(result)
    names = [store.name(each.sha256, name, each.item.file) for each in results]
    return names[0] if len(names) == 1 else store.root / "names" / name


def _reread(item: Item, store: Store) -> Result | None:
    """The file if it is there without a stamp that fits; all of it is read."""
    sha256 = item.wanted.sha256 or store.recall(item.origin or "")
    path = store.object_path(sha256)
    if not sha256 or not path.exists():
        return None
    found = existing(replace(item.wanted, sha256=sha256), path)
    return _result(item, path, found, found.seconds)


def _refuse_unpinned_url(item: Item, *, trusted: bool) -> None:
    if not item.is_pinned and not isinstance(item.model.source, HubSource) and not trusted:
        raise UserError(
            f"nothing says what {item.model.name} must be: its URL is not pinned",
            location=item.shown_source,
            code="unpinned-url",
        )


def _cached(item: Item, store: Store, manner: Manner) -> Result | None:
    """The file if its stamp fits; without reading it and without any network."""
    if manner.rehash:
        return None
    started = time.monotonic()
    sha256 = item.wanted.sha256 or (store.recall(item.origin) if item.origin else "")
    path = store.object_path(sha256)
    stamp = read_stamp(path) if sha256 else None
    if stamp is None or stamp.sha256 != sha256:
        return None
    size = path.stat().st_size
    if not fits(item.wanted, stamp, size):
        return None
    return Result(item, path, sha256, size, "cached", 0, time.monotonic() - started)


def _warn_unpinned(items: Iterable[Item], manner: Manner) -> None:
    """Say which models only the Hub itself vouches for."""
    is_hub = (item for item in items if isinstance(item.model.source, HubSource))
    for name in dict.fromkeys(item.model.name for item in is_hub if not item.is_pinned):
        manner.warn(f"{name} is not pinned; trusting the Hub's own checksums - run: invoke pin")


def _name(results: Iterable[Result], store: Store, manner: Manner) -> None:
    """Give every object its name; a store that is only read can do without new ones."""
    try:
        for result in results:
            store.name(result.sha256, result.item.model.name, result.item.file)
    except UserError as failure:
        manner.warn(f"the models are there, but not under their names: {failure.message}")


class _Stopped(Exception):  # noqa: N818 - ends a download whose result nobody awaits any more
    pass


def _fetch_all(
    items: Mapping[int, Item], store: Store, loaded: LoadedConfig, manner: Manner
) -> dict[int, Result]:
    """Fetch several at once; one that fails lets the others end, an interrupt stops them."""
    stop, done, failures = threading.Event(), {}, []
    watches = {i: _stoppable(manner.watch(item), stop) for i, item in items.items()}
    for i, item in items.items():
        watches[i]("queued", 0, item.wanted.size)
    work = {
        i: partial(_fetch, item, store, loaded, manner, watches[i]) for i, item in items.items()
    }
    try:
        for i, result in run_concurrently(work, loaded.config.store.concurrency):
            if isinstance(result, UserError):
                failures.append(result)
                watches[i]("failed", 0, items[i].wanted.size)
            else:
                done[i] = result
                watches[i](result.state, result.size, result.size)
    except BaseException:
        stop.set()
        raise
    for other in failures[1:]:
        manner.warn(str(other))
    if failures:
        raise failures[0]
    return done


def _stoppable(watch: ProgressCallback, stop: threading.Event) -> ProgressCallback:
    def watched(state: str, done: int, total: int | None, detail: str = "") -> None:
        if stop.is_set():
            raise _Stopped
        watch(state, done, total, detail)

    return watched


def _fetch(
    item: Item, store: Store, loaded: LoadedConfig, manner: Manner, watch: ProgressCallback
) -> Result:
    from scripts.common.fetch.download import fetch_verified  # not needed when all is cached

    started = time.monotonic()
    line = manner.line or RetryPolicy(ca_bundle=str(loaded.ca_bundle or ""))
    if not item.is_pinned and isinstance(item.model.source, HubSource):
        item = _asked(item, item.model.source, loaded)
    wanted = item.wanted
    if wanted.sha256:
        dest = store.object_path(wanted.sha256)
    else:
        dest = store.incoming_path(f"{item.model.source.id}@{item.revision}/{item.file}")
    if dest.exists() and manner.rehash:
        found = existing(wanted, dest, rehash=True, watch=watch)
    else:
        token = token_for(item)
        hub = Hub.of(loaded)
        brought = bool(wanted.sha256) and bring(item, dest, hub, token, watch, manner.warn)
        found = fetch_verified(wanted, dest, line=line, token=token, watch=watch)
        if brought and found.state == "resumed":
            found = replace(found, state="fetched", moved=found.size)
    path = found.path if wanted.sha256 else store.adopt(found.path, found.sha256)
    if item.origin:
        store.remember(item.origin, found.sha256)
    return _result(item, path, found, time.monotonic() - started)


def _result(item: Item, path: Path, found: VerifiedFile, seconds: float) -> Result:
    return Result(item, path, found.sha256, found.size, found.state, found.moved, seconds)


def _asked(item: Item, source: HubSource, loaded: LoadedConfig) -> Item:
    """An unpinned Hub file with the checksum that the Hub itself gives for it."""
    hub = Hub.of(loaded)
    found = describe(hub, source.hub, item.file, item.revision, token=token_for(item))
    wanted = replace(
        item.wanted,
        url=hub_url(hub.endpoint, source.hub, found.commit, item.file),
        sha256=found.sha256,
        size=item.wanted.size or found.size,
        git_blob=found.git_blob,
    )
    return item.at(found.commit, wanted)


def _write_trusted(loaded: LoadedConfig, results: Collection[Result]) -> None:
    """Write what was trusted on first use into the lock."""
    trusted = {
        result.item.model.name: LockedModel(
            source=result.item.model.source.lock_key,
            files={result.item.file: LockedFile(sha256=result.sha256, size=result.size)},
        )
        for result in results
        if not result.item.is_pinned and not isinstance(result.item.model.source, HubSource)
    }

    def with_trusted(lock: Lock) -> Lock:
        return lock.model_copy(update={"models": {**lock.models, **trusted}})

    if trusted:
        update_lock(loaded.root, with_trusted)
