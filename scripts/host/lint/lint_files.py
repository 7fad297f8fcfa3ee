"""List the files of a checkout that linters get as arguments."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from identify import identify

from scripts.common.diagnostics.error import UserError
from scripts.common.run import last_line, run_program

_NOT_FOR_SHELLCHECK: Final = {"zsh", "csh", "tcsh"}
_WORKFLOW: Final = re.compile(r"\.github/workflows/[^/]+\.ya?ml")

FileKind = Literal["dockerfiles", "shell", "workflows"]

LintFiles = Mapping[FileKind, Sequence[str]]
"""Paths in a checkout, relative to it and sorted, by kind."""


def find_files(root: Path) -> LintFiles:
    """Sort the files that git tracks, or would, by the linters that take them.

    Raises:
        UserError: the folder is no git checkout.
    """
    listing = run_program(
        [
            *("git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"),
            *("--cached", "--others", "--exclude-standard"),
        ]
    )
    if listing.returncode != 0:
        raise UserError(
            f"git cannot list the files: {last_line(listing)}",
            location=str(root),
            hint="run it in a git checkout",
        )
    names = sorted({name for name in listing.stdout.split("\0") if (root / name).is_file()})
    tags = {name: _tags(root / name) for name in names}
    return {
        "dockerfiles": [name for name in names if "dockerfile" in tags[name]],
        "shell": [n for n in names if "shell" in tags[n] and not tags[n] & _NOT_FOR_SHELLCHECK],
        "workflows": [name for name in names if _WORKFLOW.fullmatch(name)],
    }


def _tags(path: Path) -> set[str]:
    """Return identify's tags by file name, or by the first line where the name gives none."""
    if tags := identify.tags_from_filename(path.name):
        return tags
    with path.open("rb") as stream:
        shebang = identify.parse_shebang(stream)
    return identify.tags_from_interpreter(shebang[0]) if shebang else set()
