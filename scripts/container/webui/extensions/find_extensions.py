"""Find extensions: in the data folder, on volumes and in the image.

Of two with one name, compared without case as the WebUI does, the first in that order is used.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.common.active_time import active_time
from scripts.common.models.folder_listing import Problem, list_folders
from scripts.container.paths import list_volume_extensions
from scripts.container.settings import Settings

COPIES_LIST: Final = "extension-copies.json"
"""File in the data folder that names the copies of extensions that a worker made there."""

Origin = Literal["data-folder", "volume", "image"]


@dataclass(frozen=True)
class Extension:
    """An extension that was found.

    Args:
        name: of its folder, by which the WebUI and other extensions know it.
        path: where it lies.
        origin: what it was found in.
    """

    name: str
    path: Path
    origin: Origin


@dataclass(frozen=True)
class FoundExtensions:
    """Result of a search.

    Args:
        used: those that the WebUI is to load, by name.
        shadowed: those hidden by others of the same name.
        problems: folders that could not be read.
    """

    used: tuple[Extension, ...] = ()
    shadowed: tuple[Extension, ...] = ()
    problems: tuple[Problem, ...] = ()


def list_bases(settings: Settings) -> list[tuple[Path, Origin]]:
    """Return the folders to search, in order of precedence."""
    bases: list[tuple[Path, Origin]] = [(settings.data_dir / "extensions", "data-folder")]
    bases += [(folder, "volume") for folder in list_volume_extensions(settings)]
    return [*bases, (settings.image_extensions, "image")]


def read_own_copies(data_dir: Path) -> dict[str, str]:
    """Return the copies that a worker made, as fingerprint by name; an unfinished one has none."""
    try:
        found = json.loads((data_dir / COPIES_LIST).read_text(encoding="utf-8"))
        return {str(name): str(fingerprint) for name, fingerprint in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def find_extensions(settings: Settings, own_copies: Iterable[str]) -> FoundExtensions:
    """List all folders at once; one that does not answer in MODEL_SCAN_TIMEOUT is a problem.

    Args:
        settings: the environment.
        own_copies: names of the folders in the data folder that a worker made itself.
    """
    bases, own = list_bases(settings), set(own_copies)
    deadline = active_time() + settings.model_scan_timeout
    listings = list_folders([folder for folder, _ in bases], deadline)
    used: dict[str, Extension] = {}
    shadowed: list[Extension] = []
    problems: list[Problem] = []
    searched = set()
    for folder, origin in bases:
        listing = listings.get(folder)
        if listing is None:
            problems.append(Problem(folder, "no answer in time"))
            continue
        problems += listing.problems
        if listing.identity is None or listing.identity in searched:
            continue
        searched.add(listing.identity)
        for name in sorted(listing.folders):
            if name == "__pycache__" or (origin == "data-folder" and name in own):
                continue
            extension = Extension(name, folder / name, origin)
            if name.lower() in used:
                shadowed.append(extension)
            else:
                used[name.lower()] = extension
    ordered = sorted(used.values(), key=lambda each: each.name)
    return FoundExtensions(tuple(ordered), tuple(shadowed), tuple(problems))
