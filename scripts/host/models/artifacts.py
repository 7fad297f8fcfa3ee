"""Which files the config wants, and what is known of them before anything is asked of the network.

Pure: config and lock in, items out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import quote

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ArtifactSpec
from scripts.common.fetch.file_format import refuse_pickle_name
from scripts.common.fetch.retry_policy import shown
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import LockedFile, LockedModel
from scripts.host.config.schema import HubSource, Model


@dataclass(frozen=True)
class Item:
    """One file of a model.

    Args:
        model: the model it belongs to.
        file: its name in the repository, at the end of its URL, or else in the image.
        wanted: what is to be fetched, as far as known.
        revision: Hub revision it is asked at; empty for URLs.
    """

    model: Model
    file: str
    wanted: ArtifactSpec
    revision: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether config or lock say what it must be."""
        return bool(self.wanted.sha256)

    @property
    def origin(self) -> str | None:
        """A name for its content that never means another; None for what can move."""
        fixed = re.fullmatch(r"[0-9a-f]{40}", self.revision)
        return f"{self.model.source.id}@{self.revision}/{self.file}" if fixed else None

    @property
    def label(self) -> str:
        """How displays call it: the model's name, and the file's where a model has several."""
        source = self.model.source
        is_one = not isinstance(source, HubSource) or len(source.names) == 1
        return self.model.name if is_one else f"{self.model.name}/{self.file}"

    @property
    def shown_source(self) -> str:
        """Its source, for people."""
        return shown_source(self.model)

    def at(self, revision: str, wanted: ArtifactSpec) -> Item:
        """The same file, with what the network answered."""
        return replace(self, revision=revision, wanted=wanted)


def shown_source(model: Model) -> str:
    """A model's source for people, without a URL's query."""
    return model.source.id if isinstance(model.source, HubSource) else shown(model.source.id)


def plan(loaded: LoadedConfig, names: Collection[str] = ()) -> tuple[Item, ...]:
    """Every file of the models that are baked into the image, or of the named models.

    Args:
        loaded: config and lock.
        names: model names; empty for all with `placement: image`.

    Raises:
        UserError: a name is unknown, a pickle is not allowed, or config and lock disagree.
    """
    models = loaded.config.models
    unknown = set(names) - {model.name for model in models}
    if unknown:
        raise UserError(
            f"there is no model {', '.join(sorted(unknown))}",
            location="config.yaml",
            hint=f"one of: {', '.join(model.name for model in models)}",
        )
    chosen = [m for m in models if m.name in names or (not names and m.placement == "image")]
    return tuple(item for model in chosen for item in items_of(model, loaded))


def items_of(model: Model, loaded: LoadedConfig) -> list[Item]:
    """The files of one model."""
    locked = loaded.pin_of(model)
    source = model.source
    if not isinstance(source, HubSource):
        return [_item(model, file, source.url, "", locked) for file in model.files]
    revision = (locked.revision if locked else None) or source.revision
    endpoint = loaded.config.mirrors.huggingface
    return [
        _item(model, file, hub_url(endpoint, source.hub, revision, file), revision, locked)
        for file in model.files
    ]


def hub_url(endpoint: str, repo: str, revision: str, file: str) -> str:
    """Where the Hub serves a file."""
    return f"{endpoint}/{repo}/resolve/{quote(revision, safe='')}/{quote(file)}"


def _item(model: Model, file: str, url: str, revision: str, locked: LockedModel | None) -> Item:
    sha256, size = _expected(model, locked.files.get(file) if locked else None)
    name = file if model.layout == "hub-cache" else PurePosixPath(model.path).name
    if not model.allow_pickle:
        refuse_pickle_name(file)
        refuse_pickle_name(name)
    wanted = ArtifactSpec(
        url=url,
        name=name,
        sha256=sha256,
        size=size or None,
        allow_pickle=model.allow_pickle,
    )
    return Item(model, file, wanted, revision)


def _expected(model: Model, pin: LockedFile | None) -> tuple[str, int | None]:
    """SHA-256 and size by config and lock; the config's own words need not be complete."""
    if pin is None:
        return model.sha256 or "", model.size
    if (pin.sha256, pin.size) != (model.sha256 or pin.sha256, model.size or pin.size):
        raise UserError(
            f"config and lock disagree about {model.name}",
            location="config.lock.yaml",
            hint="decide which is right, then run: invoke pin",
        )
    return pin.sha256, pin.size
