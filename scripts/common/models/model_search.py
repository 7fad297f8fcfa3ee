"""Find model files by the layouts of the folders that they lie in.

Links to folders are followed, each folder once, so that a loop of links ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Final, Literal, get_args

from scripts.common.active_time import active_time
from scripts.common.concurrently import run_concurrently
from scripts.common.models.folder_listing import (
    LIMIT,
    Identity,
    Problem,
    describe_error,
    list_folder,
    list_folders,
    natural_key,
)
from scripts.common.models.kinds import COMPANION_SUFFIXES, IMAGE_SUFFIXES
from scripts.common.models.layouts import (
    A1111_FOLDERS,
    COMFYUI_FOLDERS,
    Layout,
    PlacedModel,
    find_layout,
    place_model,
)

Rule = Literal["data-folder", "model-path", "model-dir", "worker", "a1111", "comfyui", "image"]
"""Reason why a file counts as a model: the setting that names it, or its folder's layout."""

_RULES: Final = get_args(Rule)


@dataclass(frozen=True)
class FoundModel:
    """A model file.

    Args:
        placed: its kind, name and place in the data folder.
        path: where it is.
        rule: why it counts as a model.
        root: folder that was searched.
        companions: names of files beside it that belong to it, such as its configuration.
        rank: of two with one name that of the lower rank is used.
    """

    placed: PlacedModel
    path: Path
    rule: Rule
    root: Path
    companions: tuple[str, ...] = ()
    rank: int = 0


@dataclass(frozen=True)
class ModelBase:
    """A folder that may hold models.

    Args:
        folder: the folder, with `models` and `embeddings` in it.
        root: what it belongs to: the volume, the image, the data folder.
        layout: of all that is in it; None where the names in `models` tell the layout.
        rule: the rule to report; None for the layout's name.
        known_only: leave out folders of `models` that are not in the tables.
        inside: where the folder would be in a data folder; all that is in it is then searched.
    """

    folder: Path
    root: Path
    layout: Layout | None
    rule: Rule | None = None
    known_only: bool = False
    inside: PurePosixPath | None = None

    def choose_layout(self, name: str) -> Layout | None:
        """Return the layout of a folder of `models`; None where it is not searched."""
        if self.layout is None:
            return find_layout(name)
        if self.layout == "comfyui":
            return "comfyui" if name in COMFYUI_FOLDERS else None
        if self.known_only and f"models/{name}" not in A1111_FOLDERS:
            return None
        return self.layout


@dataclass
class Discovery:
    """Result of a search, in a fixed order.

    Args:
        identity: of the folder, for a search of one base; None where there is no folder.
        found: models.
        problems: what could not be read.
        unplaced: files in the folders of models that are no models by their names.
    """

    identity: Identity | None = None
    found: list[FoundModel] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unplaced: list[Path] = field(default_factory=list)


def list_volume_bases(root: Path) -> list[ModelBase]:
    """Return the folders of a volume that may hold models, in order of precedence."""
    return [
        ModelBase(root, root, None),
        ModelBase(root / "stable-diffusion-webui", root, "a1111"),
        ModelBase(root / "ComfyUI", root, "comfyui"),
    ]


def discover(bases: Sequence[ModelBase], own_links: frozenset[Path], timeout: float) -> Discovery:
    """Search all folders at once.

    Args:
        bases: in order of precedence.
        own_links: links that the worker made itself, which are no models of their own.
        timeout: seconds after which a folder that has not answered is left out.
    """
    deadline = active_time() + timeout
    work = {base: partial(_discover, base, own_links, deadline) for base in bases}
    # The margin lets each search report for itself what did not answer.
    results = dict(run_concurrently(work, len(work), timeout=timeout + 1.0))
    search = Discovery()
    searched: set[Identity] = set()
    for number, base in enumerate(bases):
        result = results.get(base)
        if not isinstance(result, Discovery):
            search.problems.append(Problem(base.folder, f"no answer within {timeout:.0f} s"))
        elif result.identity not in searched:
            if result.identity:
                searched.add(result.identity)
            ranks = len(_RULES) * number
            search.found += [
                replace(each, rank=ranks + _RULES.index(each.rule)) for each in result.found
            ]
            search.problems += result.problems
            search.unplaced += result.unplaced
    search.problems = list(dict.fromkeys(search.problems))
    return search


def measure_files(paths: Iterable[Path], timeout: float = 10.0) -> dict[Path, int]:
    """Return the sizes of files, without those that are not there or do not answer in time."""
    results = run_concurrently(
        {path: partial(_measure, path) for path in paths}, LIMIT, timeout=timeout
    )
    return {path: size for path, size in results if isinstance(size, int)}


def _measure(path: Path) -> int | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size if S_ISREG(stat.st_mode) else None


def _discover(base: ModelBase, own_links: frozenset[Path], deadline: float) -> Discovery:
    result = Discovery()
    try:
        stat = base.folder.stat()
    except FileNotFoundError:
        return result
    except OSError as error:
        result.problems.append(Problem(base.folder, describe_error(error)))
        return result
    result.identity = (stat.st_dev, stat.st_ino)
    starts, result.problems = _choose_starts(base)
    for path, names, problems in _walk(base.folder, list(starts), deadline):
        result.problems += problems
        layout = starts[next(start for start in starts if path.is_relative_to(start))]
        rule: Rule = base.rule or ("image" if layout == "image" else layout)
        placed = list(_place_files((base.inside or PurePosixPath()) / path, names, layout))
        known = {each for _, name, companions in placed for each in (name, *companions)}
        result.unplaced += [base.folder / path / name for name in names if name not in known]
        for model, name, companions in placed:
            file = base.folder / path / name
            if file not in own_links:
                result.found.append(FoundModel(model, file, rule, base.root, companions))
    return result


def _choose_starts(base: ModelBase) -> tuple[dict[PurePosixPath, Layout], list[Problem]]:
    """Return the folders below a base that hold models, with the layout of each."""
    if base.inside is not None:
        return {PurePosixPath(): "a1111"}, []
    listing = list_folder(base.folder / "models")
    starts = {
        PurePosixPath("models", name): layout
        for name in sorted(listing.folders)
        if (layout := base.choose_layout(name))
    }
    if base.layout != "comfyui":
        starts[PurePosixPath("embeddings")] = base.layout or "a1111"
    return starts, listing.problems


def _place_files(
    folder: PurePosixPath, names: Sequence[str], layout: Layout
) -> Iterator[tuple[PlacedModel, str, tuple[str, ...]]]:
    """Return the models among the files of one folder, each with its name and companions."""
    placed = {name: model for name in names if (model := place_model(folder / name, layout))}
    stems = {
        PurePosixPath(name).stem for name in placed if not name.lower().endswith(COMPANION_SUFFIXES)
    }
    pictured = {PurePosixPath(name).stem for name in placed if not _is_image(name)}
    for name, model in placed.items():
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
        if suffix in COMPANION_SUFFIXES and stem in stems:
            continue
        # An embedding may be an image too, but then it is no preview of another file.
        is_preview = stem.lower().endswith(".preview") or stem in pictured
        if model.kind == "embedding" and _is_image(name) and is_preview:
            continue
        beside = (f"{stem}{each}" for each in COMPANION_SUFFIXES)
        yield model, name, tuple(each for each in beside if each in names and each != name)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _walk(
    base: Path, starts: Sequence[PurePosixPath], deadline: float
) -> Iterator[tuple[PurePosixPath, list[str], list[Problem]]]:
    """List folders level by level: each one's path below `base`, file names and problems."""
    level = {start: start for start in starts}  # a folder, and the start that it is below
    seen: set[tuple[PurePosixPath, Identity]] = set()
    while level:
        listings = list_folders([base / path for path in level], deadline)
        below: dict[PurePosixPath, PurePosixPath] = {}
        for path, start in level.items():
            listing = listings.get(base / path)
            if listing is None:
                yield path, [], [Problem(base / path, "no answer in time")]
            elif listing.identity is None:  # the problem says why, if it was ever there
                gone = [] if path == start else [Problem(base / path, "vanished meanwhile")]
                yield path, [], listing.problems or gone
            elif (start, listing.identity) not in seen:
                seen.add((start, listing.identity))
                yield path, sorted(listing.files, key=natural_key), listing.problems
                for name in sorted(listing.folders, key=natural_key):
                    below[path / name] = start
        level = below
