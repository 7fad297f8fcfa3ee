"""Decide which model files the WebUI sees, and which checkpoint it loads at start.

The WebUI looks below its data folder only, so the models of the image and of the volume are linked
into it (`model_links.py`). Of two models that the WebUI cannot tell apart one shadows the other: a
file in the data folder comes first, then MODEL_DIR, the volume and the image.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.models.folder_listing import Problem, natural_key
from scripts.common.models.kinds import KINDS, MOVING_FLAGS, Kind, identify
from scripts.common.models.model_search import FoundModel, Rule, discover, measure_files
from scripts.container.paths import list_bases
from scripts.container.settings import VARIABLES, Settings
from scripts.container.webui.hub_checkpoint import with_hub_path
from scripts.container.webui.start_checkpoint import (
    UNLINKED_RULES,
    baked_checkpoint,
    find_baked,
    find_named_path,
    is_named,
    place_checkpoint,
)

_FILE: Final = "models.json"  # in WORKER_DIR, for preflight, metrics and the command
_LISTED: Final = 5  # names that a message lists


@dataclass(frozen=True)
class ModelEntry:
    """A model file that was found.

    Args:
        path: where it is.
        kind: its kind.
        family: its family; empty for a kind without families.
        name: its name in the WebUI: the path below the folder of its kind.
        root: the volume, image or folder that it was found in.
        rule: why it counts as a model.
        place: its path in the data folder; empty where the WebUI finds it by itself.
        companions: files that belong to it, by name those beside it; each begins with its stem.
        shadowed_by: path of the model that is used in its place; empty when it is seen itself.
    """

    path: str
    kind: Kind
    family: str
    name: str
    root: str
    rule: Rule
    place: str = ""
    companions: tuple[str, ...] = ()
    shadowed_by: str = ""

    def links(self) -> dict[str, str]:
        """Return the links that make it seen, as target by place; none for a shadowed one."""
        if self.shadowed_by or not self.place:
            return {}
        path, place = Path(self.path), PurePosixPath(self.place)
        files = [path.parent / name for name in self.companions]
        ends = [file.name.removeprefix(path.stem) for file in files]
        beside = {
            str(place.with_name(f"{place.stem}{end}")): str(file)
            for file, end in zip(files, ends, strict=True)
        }
        return {self.place: self.path, **beside}


@dataclass(frozen=True)
class ModelTree:
    """All models that were found.

    Args:
        entries: by kind, then by name; of one name the one that is used comes first.
        problems: what could not be read or linked.
        checkpoint: path for the WebUI's `--ckpt`.
    """

    entries: tuple[ModelEntry, ...] = ()
    problems: tuple[Problem, ...] = ()
    checkpoint: Path = field(default=Path())

    @property
    def visible(self) -> tuple[ModelEntry, ...]:
        """The models that the WebUI sees."""
        return tuple(entry for entry in self.entries if not entry.shadowed_by)

    def count_by_kind(self) -> dict[Kind, int]:
        """Return how many models of each kind the WebUI sees; every kind has a number."""
        kinds = [entry.kind for entry in self.visible]
        return {kind: kinds.count(kind) for kind in KINDS}

    def list_checkpoints(self) -> list[Path]:
        """Return the paths of all checkpoints that the WebUI sees."""
        return [Path(entry.path) for entry in self.visible if entry.kind == "checkpoint"]

    def to_json(self) -> dict[str, Any]:
        """Return the tree as the command prints it and other processes read it."""
        return {
            "checkpoint": str(self.checkpoint),
            "models": [asdict(entry) for entry in self.entries],
            "problems": [
                {"path": str(problem.path), "reason": problem.reason} for problem in self.problems
            ],
        }


def build_model_tree(settings: Settings, own_links: frozenset[Path] = frozenset()) -> ModelTree:
    """Search all places and decide which models the WebUI sees; nothing is changed.

    Args:
        settings: the environment.
        own_links: links in the data folder that the worker made itself.

    Raises:
        UserError: MODEL_PATH names no checkpoint, and the WebUI would take another one
            (code `model-missing`), or several (code `model-ambiguous`).
    """
    settings, timeout = with_hub_path(settings), settings.model_scan_timeout
    search = discover(list_bases(settings), own_links, timeout)
    found, problems = search.found, search.problems
    found += find_baked(settings, found)
    checkpoints = [model for model in found if model.placed.kind == "checkpoint"]
    wanted = find_named_path(settings, checkpoints)
    is_found = any(model.path == wanted for model in checkpoints)
    if wanted and not is_found and measure_files([wanted], timeout):
        found.append(place_checkpoint(wanted, wanted.name, "model-path"))
    entries = _resolve(found, wanted)
    problems += _find_moved_folders(settings, entries)
    checkpoint = choose_checkpoint(settings, entries)
    return ModelTree(tuple(entries), tuple(problems), checkpoint)


def choose_checkpoint(settings: Settings, entries: Iterable[ModelEntry]) -> Path:
    """Return the path of the checkpoint that MODEL_PATH names, as the WebUI is to see it.

    Without such a file the WebUI would load the first one that it finds and say so in its log only
    (`modules/sd_models.py`, select_checkpoint). That is done where MODEL_PATH is not set.

    Raises:
        UserError: as for `build_model_tree`.
    """
    wanted = settings.model_path
    seen = [entry for entry in entries if entry.kind == "checkpoint" and not entry.shadowed_by]
    if wanted.is_absolute():
        matches = [entry for entry in seen if entry.path == str(wanted)]
    else:
        matches = [entry for entry in seen if is_named(str(wanted), entry.name)]
        exact = [entry for entry in matches if entry.name == str(wanted)]
        baked = baked_checkpoint()
        if is_named(str(wanted), baked.name):
            matches = matches or [entry for entry in seen if entry.path == str(baked)]
        matches = exact or matches
    if len(matches) > 1:
        listed = ", ".join(entry.name for entry in matches[:_LISTED])
        hint = f"set MODEL_PATH to one of: {listed}"
        raise UserError(location=f"MODEL_PATH={wanted}", hint=hint, code="model-ambiguous")
    if not matches and seen and str(wanted) == VARIABLES["MODEL_PATH"].default:
        matches = seen[:1]
    if matches:
        [entry] = matches
        return settings.data_dir / entry.place if entry.place else Path(entry.path)
    if seen:
        listed = ", ".join(entry.name for entry in seen[:_LISTED])
        hint = f"set MODEL_PATH to one that is there: {listed}"
        raise UserError(location=f"MODEL_PATH={wanted}", hint=hint, code="model-missing")
    return wanted


def format_counts(tree: ModelTree) -> str:
    """Return the number of models by kind, as in `2 checkpoint, 1 lora`."""
    counts = tree.count_by_kind().items()
    return ", ".join(f"{count} {kind}" for kind, count in counts if count) or "none"


def save_tree(worker_dir: Path, tree: ModelTree) -> None:
    """Write the tree where the worker's other processes read it.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(worker_dir / _FILE, json.dumps(tree.to_json()))


def load_tree(worker_dir: Path) -> ModelTree | None:
    """Return the tree of the running worker; None where there is none."""
    try:
        data = json.loads((worker_dir / _FILE).read_text(encoding="utf-8"))
        names = [row.name for row in fields(ModelEntry)]
        return ModelTree(
            tuple(
                ModelEntry(**{name: _frozen(row[name]) for name in names}) for row in data["models"]
            ),
            tuple(Problem(Path(row["path"]), row["reason"]) for row in data["problems"]),
            Path(data["checkpoint"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _frozen(value: Any) -> Any:  # noqa: ANN401 - a field's value as JSON has it
    return tuple(value) if isinstance(value, list) else value


def _resolve(models: Iterable[FoundModel], first: Path | None) -> list[ModelEntry]:
    """Decide which of several models with one name is used.

    Args:
        models: all that were found.
        first: path of the model that is used whatever its rank.

    Returns:
        Entries in the order of reports.
    """
    groups: dict[tuple[str, ...], list[FoundModel]] = {}
    for model in models:
        placed = model.placed
        identity = identify(placed.kind, placed.name)
        groups.setdefault((placed.kind, placed.family, identity), []).append(model)
    entries: list[ModelEntry] = []
    for group in groups.values():
        # Of several below one folder the WebUI keeps the last.
        group.sort(key=lambda model: natural_key(str(model.path)), reverse=True)
        group.sort(key=lambda model: (model.path != first, model.rank))
        used = group[0]
        entries += [_entry(model, "" if model is used else str(used.path)) for model in group]
    kinds = list(KINDS)
    entries.sort(key=lambda entry: (kinds.index(entry.kind), entry.family, natural_key(entry.name)))
    return entries


def _entry(model: FoundModel, shadowed_by: str) -> ModelEntry:
    placed = model.placed
    return ModelEntry(
        path=str(model.path),
        kind=placed.kind,
        family=placed.family,
        name=placed.name,
        root=str(model.root),
        rule=model.rule,
        place="" if model.rule in UNLINKED_RULES else str(placed.place),
        companions=model.companions,
        shadowed_by=shadowed_by,
    )


def _find_moved_folders(settings: Settings, entries: Iterable[ModelEntry]) -> list[Problem]:
    """Return the folders whose links the WebUI does not look at, because a flag names another."""
    moved = []
    for argument in settings.further_flags:
        flag = argument.partition("=")[0]
        if flag in MOVING_FLAGS:
            kind, family = MOVING_FLAGS[flag]
            affected = [each for each in entries if (each.kind, each.family) == (kind, family)]
            count = sum(bool(each.links()) for each in affected)
            if count:
                folder = settings.data_dir / Path(affected[0].place or ".").parent
                moved.append(Problem(folder, f"{flag} hides {count} of kind {kind}"))
    return moved
