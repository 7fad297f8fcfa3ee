"""Turn what was found in an install into values of the config."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import ValidationError

from scripts.common.models.kinds import COMPANION_SUFFIXES, Kind, choose_family, identify
from scripts.common.models.layouts import PlacedModel
from scripts.host.config.addresses import file_name
from scripts.host.config.features import FeatureModel
from scripts.host.config.layers import Layer, validation_error
from scripts.host.config.model_place import CHECKPOINT_PATH, PATH_PATTERN
from scripts.host.config.model_schema import Model
from scripts.host.importer.installed_models import InstalledModel
from scripts.host.importer.model_origins import Origin
from scripts.host.importer.user_flags import LeftOut

Entry = dict[str, Any]

_LOCAL: Final = "file"  # an origin on this machine only


@dataclass(frozen=True)
class PlannedModel:
    """A model that becomes an entry of the config.

    Args:
        model: the file.
        entry: the entry.
        found_at: where its source was found, as in `Origin`, or `file`.
    """

    model: InstalledModel
    entry: Entry
    found_at: str

    @property
    def is_local(self) -> bool:
        """True if its only known source is the file itself."""
        return self.found_at == _LOCAL


@dataclass(frozen=True)
class ImportPlan:
    """The entries that an import adds to the config.

    Args:
        models: new models.
        kept: models of the config that stay.
        known: names of models of the config that the install has too.
        flags: of the WebUI that the config does not add yet.
        settings: of the WebUI that the config does not have yet.
        extensions: entries of new extensions.
        start: name of the checkpoint that is loaded at start, as the install calls it; empty where
            the config's stays.
        start_name: its name in the image's WebUI.
        vaes: names of the VAEs that the image has.
        left_out: what is not imported.
    """

    models: tuple[PlannedModel, ...] = ()
    kept: tuple[Model, ...] = ()
    known: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    extensions: tuple[Entry, ...] = ()
    start: str = ""
    start_name: str = ""
    vaes: frozenset[str] = frozenset()
    left_out: tuple[LeftOut, ...] = ()


def plan_models(
    models: Sequence[InstalledModel],
    origins: Mapping[str, Origin],
    configured: Sequence[Model],
    hashes: Mapping[str, Collection[str]],
    last_checkpoint: str,
    *,
    keep_start: bool,
) -> ImportPlan:
    """Make an entry of each model that the config does not have yet.

    Args:
        models: of the install, each content once.
        origins: where they come from, by SHA-256.
        configured: models of the config, and of its features.
        hashes: known SHA-256 of their files, by name of the model.
        last_checkpoint: name of the checkpoint that the install has loaded last; empty if unknown.
        keep_start: the config's own checkpoint is loaded at start.
    """
    left_out = [
        LeftOut(str(found.path), problem)
        for found in models
        if (problem := _find_name_problem(found.placed.name))
    ]
    models = [found for found in models if not _find_name_problem(found.placed.name)]
    start = _find_configured_start(models, configured, hashes)
    if not (start or keep_start):
        start = choose_start(models, last_checkpoint)
    kept = [
        model
        for model in configured
        if start is None
        or model.target != CHECKPOINT_PATH
        or start.sha256 in hashes.get(model.name, ())
    ]
    names = {model.name for model in kept}
    taken = {identity: model for model in kept for identity in _identities(model)}
    planned: list[PlannedModel] = []
    known: list[str] = []
    vaes: set[str] = set()
    start_name = ""
    for found in models:
        origin = origins.get(found.sha256) or Origin({"url": found.path.as_uri()}, _LOCAL)
        name = _choose_name(found, names)
        path = _choose_start_path(found, start) or _choose_path(found.placed, origin)
        entry = make_entry(name, found, origin, path)
        if path == CHECKPOINT_PATH and _find_file_name(origin) != found.placed.name:
            entry["webui_name"] = found.placed.name
        try:
            model = Model.model_validate(entry)
        except ValidationError as error:
            reason = validation_error(error, Layer(entry), name="model", hint="").message
            left_out.append(LeftOut(str(found.path), reason))
            continue
        identities = _identities(model)
        other = next((taken[each] for each in identities if each in taken), None)
        if other and found.sha256 not in hashes.get(other.name, ()):
            reason = f"{other.name} of the config has its place, with other content"
            left_out.append(LeftOut(str(found.path), reason))
            continue
        if other:
            known.append(other.name)
        else:
            taken |= dict.fromkeys(identities, model)
            names.add(name)
            planned.append(PlannedModel(found, entry, origin.found_at))
        if found is start:
            start_name = (other or model).location.name
        if model.kind == "vae":
            vaes.add(PurePosixPath(found.placed.name).name)
    return ImportPlan(
        tuple(planned),
        tuple(model for model in kept if not isinstance(model, FeatureModel)),
        tuple(known),
        start=start.placed.name if start else "",
        start_name=start_name,
        vaes=frozenset(vaes),
        left_out=tuple(left_out),
    )


def _find_name_problem(name: str) -> str:
    """Return why the config cannot hold a name; empty if it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if not re.fullmatch(PATH_PATTERN, name):
        return "its name has a dot, a blank or a line break where none may be; rename it"
    return ""


def _find_configured_start(
    models: Sequence[InstalledModel],
    configured: Sequence[Model],
    hashes: Mapping[str, Collection[str]],
) -> InstalledModel | None:
    """Return the checkpoint of the install that the config has for the start; None without one."""
    expected = {
        sha256
        for model in configured
        if model.target == CHECKPOINT_PATH
        for sha256 in hashes.get(model.name, ())
    }
    return next(
        (each for each in models if each.sha256 in expected and each.placed.kind == "checkpoint"),
        None,
    )


def choose_start(models: Sequence[InstalledModel], last: str) -> InstalledModel | None:
    """Return the checkpoint to load at start: the one that was loaded last, else the first.

    The image has it as `/model.safetensors`, so it must be safetensors.
    """
    usable = [
        model
        for model in models
        if model.placed.kind == "checkpoint" and model.path.suffix.lower() == ".safetensors"
    ]
    named = (
        each for each in usable if last in (each.placed.name, PurePosixPath(each.placed.name).name)
    )
    return next(named, usable[0] if usable else None)


def make_entry(name: str, found: InstalledModel, origin: Origin, path: str) -> Entry:
    """Return a model as the config holds it, without default values.

    Args:
        name: name of the model in tasks.
        found: the file.
        origin: where it comes from.
        path: as in the config; empty where kind and source give the place.
    """
    placed = found.placed
    family = placed.family if placed.family != choose_family(placed.kind, placed.name) else ""
    return {
        "name": name,
        "source": dict(origin.source),
        "kind": placed.kind,
        **({"family": family} if family else {}),
        **({"path": path} if path else {}),
        "sha256": found.sha256,
        "size": found.size,
        **({"allow_pickle": True} if found.is_pickle else {}),
        **({"licence": origin.licence} if origin.licence else {}),
    }


def _choose_start_path(found: InstalledModel, start: InstalledModel | None) -> str:
    """Return `path` of the checkpoint that is loaded at start, or of its configuration.

    The worker links both under the checkpoint's name in the WebUI.
    """
    if start is None:
        return ""
    if found is start:
        return CHECKPOINT_PATH
    is_configuration = found.placed.place == start.placed.place.with_suffix(".yaml")
    return str(PurePosixPath(CHECKPOINT_PATH).with_suffix(".yaml")) if is_configuration else ""


def _choose_path(placed: PlacedModel, origin: Origin) -> str:
    """Return `path` of an entry; empty where kind and source give the same place."""
    is_needed = placed.kind == "other" or _find_file_name(origin) != placed.name
    return placed.name if is_needed else ""


def _find_file_name(origin: Origin) -> str:
    """Return the file name at the source; empty where its address shows none."""
    file = PurePosixPath(origin.source.get("file", "")).name
    return file or file_name(origin.source.get("url", ""))


def _choose_name(found: InstalledModel, taken: Collection[str]) -> str:
    """Return a name for tasks that no other model has."""
    path = PurePosixPath(found.placed.name)
    stem = path.name if path.suffix.lower() in COMPANION_SUFFIXES else path.stem
    name = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-._") or found.placed.kind
    wanted = (name, f"{name}-{found.placed.kind}")
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 4))
    return next(each for each in (*wanted, *numbered) if each not in taken)


def _identities(model: Model) -> list[tuple[Kind | str, ...]]:
    """Return what no two models of a config may share."""
    kind, name = model.actual_kind, model.location.name
    if kind == "other" or name.lower().endswith(COMPANION_SUFFIXES):
        return [model.filled_paths]
    identity = (kind, model.location.family, identify(kind, name))
    return [identity, model.filled_paths] if model.target == CHECKPOINT_PATH else [identity]
