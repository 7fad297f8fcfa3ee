"""What `invoke models.list` shows: every model of a config, and whether it is in the store."""

from __future__ import annotations

from scripts.common.fetch.stamps import read_stamp
from scripts.host.config.load import LoadedConfig
from scripts.host.console import size
from scripts.host.models.artifacts import Item, items_of, shown_source
from scripts.host.models.store import Store

HEADER = ("model", "files", "size", "source", "placement", "path", "pinned", "here")


def rows(loaded: LoadedConfig) -> list[tuple[str, ...]]:
    """One row a model, as text."""
    store = Store(loaded.store)
    result: list[tuple[str, ...]] = []
    for model in loaded.config.models:
        items = items_of(model, loaded)
        sizes = [item.wanted.size for item in items]
        known = sum(each for each in sizes if each)
        row = (model.name, str(len(items)), size(known) if all(sizes) else "-", shown_source(model))
        pinned = "yes" if all(item.is_pinned for item in items) else "no"
        here = "yes" if all(_is_here(item, store) for item in items) else "no"
        result.append((*row, model.placement, model.path, pinned, here))
    return result


def _is_here(item: Item, store: Store) -> bool:
    sha256 = item.wanted.sha256 or store.recall(item.origin or "")
    return bool(sha256) and read_stamp(store.object_path(sha256)) is not None
