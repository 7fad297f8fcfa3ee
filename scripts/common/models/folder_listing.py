"""List folders that may lie on a slow network file system, be unreadable, or never answer.

Each folder is listed with one call, many at once, and no file is opened.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.common.active_time import active_time
from scripts.common.concurrently import run_concurrently

LIMIT = 16
"""Folders that are listed at once; network file systems answer in parallel."""

Identity = tuple[int, int]
"""Device and inode of a folder."""


@dataclass(frozen=True)
class Problem:
    """Something that was not read or not linked; `reason` continues the path in a sentence."""

    path: Path
    reason: str


@dataclass
class Listing:
    """Names in a folder, without hidden ones."""

    identity: Identity | None = None
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def list_folders(folders: Sequence[Path], deadline: float) -> dict[Path, Listing]:
    """List folders at once; without those that have not answered before the deadline."""
    work = {folder: partial(list_folder, folder) for folder in folders}
    left = max(deadline - active_time(), 0.0)
    results = run_concurrently(work, LIMIT, timeout=left)
    return {folder: listing for folder, listing in results if isinstance(listing, Listing)}


def list_folder(folder: Path) -> Listing:
    """List one folder; a folder that cannot be read is a problem of the listing."""
    listing = Listing()
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return listing
    except OSError as error:
        listing.problems.append(Problem(folder, describe_error(error)))
        return listing
    try:
        stat = os.fstat(descriptor)
        listing.identity = (stat.st_dev, stat.st_ino)
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _add(listing, entry, folder)
    except OSError as error:
        listing.problems.append(Problem(folder, describe_error(error)))
    finally:
        os.close(descriptor)
    return listing


def _add(listing: Listing, entry: os.DirEntry[str], folder: Path) -> None:
    """Sort an entry into files and folders; only links cost a further call."""
    try:
        if entry.is_dir():
            listing.folders.append(entry.name)
        elif entry.is_file():
            listing.files.append(entry.name)
        elif entry.is_symlink():
            listing.problems.append(Problem(folder / entry.name, "a link to nothing"))
    except OSError as error:
        listing.problems.append(Problem(folder / entry.name, describe_error(error)))


def natural_key(path: str) -> list[tuple[int, str]]:
    """Return a key that sorts as the WebUI does: numbers by value, letters without case."""
    parts = re.split(r"(\d+)", path.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def describe_error(error: Exception) -> str:
    """Return the system's message in lower case, to follow a path in a sentence."""
    return (getattr(error, "strerror", None) or str(error)).lower()
