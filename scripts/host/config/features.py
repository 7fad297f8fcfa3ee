"""Expand the features of a config into models: the files that A1111 would fetch at first use."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from scripts.common.models.kinds import Kind
from scripts.common.models.weights import AuxiliaryWeight, Feature, features, weights_of
from scripts.host.config.model_place import Placement
from scripts.host.config.model_schema import HubSource, Model, Section, Source, UrlSource

_SINGLE_FILES: Final = {"GFPGAN": "GFPGAN", "Codeformer": "", "BLIP": "", "torch_deepdanbooru": ""}
"""Families of which A1111 loads the first file alone, and what its name must contain.

Sources, alike in v1.9.3 and v1.10.1: `gfpgan_model.py:30-46`, `codeformer_model.py:30-43`,
`interrogate.py:93-101`, `deepbooru.py:20-28`, all in `modules`.
"""


class FeatureChoice(Section):
    """A feature, and where its files go."""

    name: Feature
    """The feature."""
    placement: Placement = "image"
    """Baked into the image, or fetched by the worker at start."""


def _from_name(value: Any) -> Any:  # noqa: ANN401 - raw YAML
    return {"name": value} if isinstance(value, str) else value


ChosenFeature = Annotated[
    FeatureChoice, BeforeValidator(_from_name, json_schema_input_type=Feature | FeatureChoice)
]
"""A feature by its name, or with a placement."""


class FeatureModel(Model):
    """A model that a feature adds to those of the config."""

    feature: Feature
    """The feature that adds it."""

    @property
    def checked_kind(self) -> Kind | None:
        """Kind by whose loader the file is checked."""
        # A1111 itself loads those without a kind of their own, as it does interrogators.
        return "interrogate" if self.kind == "other" else self.kind

    @property
    def declared_in(self) -> str:
        """The file that holds its source and checksum."""
        return f"feature {self.feature}"

    @property
    def is_pinned(self) -> bool:
        """Return whether the table of weights decides its bytes, so that it needs no lock."""
        is_fixed = isinstance(self.source, UrlSource) or self.source.revision != "main"
        return self.sha256 is not None and is_fixed


def expand_features(
    chosen: Iterable[FeatureChoice], release: str, configured: Iterable[Model]
) -> tuple[FeatureModel, ...]:
    """Return the models of some features, each once.

    A configured model of the same place takes the place of a feature's, and so does one that A1111
    would load in place of it.

    Args:
        chosen: the features; of two with the same file the first decides where it goes.
        release: A1111 release.
        configured: models of the config.

    Raises:
        ValueError: the release does not have a feature, or another model has a file's name.
    """
    configured = tuple(configured)
    names = {model.name for model in configured}
    taken = {claim for model in configured for claim in _claims(model)}
    found: dict[str, FeatureModel] = {}
    for choice in chosen:
        rows = weights_of(choice.name, release)
        if not rows:
            known = ", ".join(features(release))
            raise ValueError(f"features: A1111 {release} has no {choice.name}; one of {known}")
        for row in rows:
            model = _make_model(row, choice)
            if row.name in found or not taken.isdisjoint(_claims(model)):
                continue
            if row.name in names:
                raise ValueError(
                    f"models: {row.name} is the name of a file of {model.declared_in}; give the"
                    f" model another name, or to replace that file its place, {model.target}"
                )
            found[row.name] = model
    return tuple(found.values())


def _claims(model: Model) -> Iterator[Hashable]:
    """Yield what two models cannot share: paths, and for A1111 a name or a family with one file."""
    yield from model.filled_paths
    family, name = model.location.family, model.location.name
    if model.kind:
        yield model.kind, family, name
    if family in _SINGLE_FILES and _SINGLE_FILES[family] in name:
        yield family


def _make_model(row: AuxiliaryWeight, choice: FeatureChoice) -> FeatureModel:
    """Return a row as a model; what A1111 looks for outside of its data folder is always baked."""
    source: Source = (
        HubSource(hub=row.hub, file=row.file, revision=row.revision)
        if row.hub
        else UrlSource(url=row.url)
    )
    return FeatureModel(
        name=row.name,
        source=source,
        kind=row.kind,
        family=row.family or None,
        path=row.path,
        layout="hub-cache" if row.is_hub_cache else "file",
        placement=choice.placement if row.kind else "image",
        sha256=row.sha256 or None,
        size=row.size,
        allow_pickle=True,  # most are; their imports are checked all the same
        licence=row.licence or None,
        feature=choice.name,
    )
