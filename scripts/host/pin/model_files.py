"""Finds revision, SHA-256 and size of every file of a model.

The Hub's own record is enough for a large file. Small files and plain URLs come without a SHA-256:
they are downloaded, into the store, where a prefetch finds them later.
"""

from __future__ import annotations

from dataclasses import replace

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.download import fetch_verified
from scripts.common.fetch.retry_policy import RetryPolicy
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock, LockedFile, LockedModel
from scripts.host.config.schema import HubSource, Model
from scripts.host.models.artifacts import Item, hub_url, items_of, shown_source
from scripts.host.models.hub import Hub, HubFile, describe
from scripts.host.models.store import Store
from scripts.host.models.tokens import token_for


def locked(loaded: LoadedConfig, model: Model) -> LockedModel:
    """What the outside world says of a model now.

    Raises:
        UserError: it cannot be had, or differs from what config.yaml says of it.
    """
    unpinned = model.model_copy(update={"sha256": None, "size": None})
    first, *others = items_of(unpinned, replace(loaded, lock=Lock()))
    if isinstance(model.source, HubSource):
        found = _from_hub(loaded, model.source, [first, *others])
    else:
        found = LockedModel(
            source=model.source.lock_key, files={first.file: _measured(loaded, first)}
        )
    _agree(model, found)
    return found


def _agree(model: Model, found: LockedModel) -> None:
    """Hold a model of one file to the checksum and size that a person wrote down."""
    if len(found.files) != 1:
        return
    [file] = found.files.values()
    for word, said, seen in (
        ("sha256", model.sha256, file.sha256),
        ("size", model.size, file.size),
    ):
        if said is not None and said != seen:
            raise UserError(
                f"model {model.name}: config.yaml says {word} {said}, the source has {seen}",
                location=shown_source(model),
                hint="find out which is right before you mend config.yaml",
            )


def _from_hub(loaded: LoadedConfig, source: HubSource, items: list[Item]) -> LockedModel:
    """All files at the commit that the first one names: a branch may move in between."""
    commit, files = source.revision, {}
    for item in items:
        described = _described(loaded, source, item, commit)
        commit = described.commit
        files[item.file] = _hub_file(loaded, source, item, described)
    return LockedModel(source=source.lock_key, revision=commit, files=files)


def _described(loaded: LoadedConfig, source: HubSource, item: Item, revision: str) -> HubFile:
    return describe(Hub.of(loaded), source.hub, item.file, revision, token=token_for(item))


def _hub_file(
    loaded: LoadedConfig, source: HubSource, item: Item, described: HubFile
) -> LockedFile:
    if described.sha256 and described.size is not None:
        return LockedFile(sha256=described.sha256, size=described.size)
    endpoint = loaded.config.mirrors.huggingface
    wanted = replace(
        item.wanted,
        url=hub_url(endpoint, source.hub, described.commit, item.file),
        sha256=described.sha256,
        size=described.size,
        git_blob=described.git_blob,
    )
    return _measured(loaded, item.at(described.commit, wanted))


def _measured(loaded: LoadedConfig, item: Item) -> LockedFile:
    """Download a file and say what it is; the store keeps it."""
    store = Store(loaded.store)
    incoming = store.incoming_path(f"pin {item.wanted.url}")
    incoming.unlink(missing_ok=True)  # what an earlier run left proves nothing about now
    line = RetryPolicy(ca_bundle=str(loaded.ca_bundle or ""))
    found = fetch_verified(item.wanted, incoming, line=line, token=token_for(item))
    store.adopt(found.path, found.sha256)
    return LockedFile(sha256=found.sha256, size=found.size)
