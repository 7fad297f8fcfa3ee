"""Sorts the checkout's files by what can lint them; what git ignores is nobody's business."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scripts.common.diagnostics.error import UserError

_SHELLS = ("sh", "bash", "dash", "ash", "ksh")


@dataclass(frozen=True)
class Files:
    """Paths relative to the checkout, sorted.

    Args:
        dockerfiles: recipes of images.
        shell: scripts by suffix or first line.
        workflows: GitHub's.
    """

    dockerfiles: tuple[str, ...]
    shell: tuple[str, ...]
    workflows: tuple[str, ...]


def sorted_files(root: Path) -> Files:
    """The files below `root` that are tracked, or would be.

    Raises:
        UserError: git does not answer there.
    """
    words = ["git", "-C", str(root), "ls-files", "-z"]
    try:
        listing = subprocess.run(
            [*words, "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError("there is no git command", hint="install git") from None
    if listing.returncode != 0:
        reason = listing.stderr.strip().splitlines()
        raise UserError(
            f"git cannot list the files: {reason[0] if reason else 'no reason given'}",
            location=str(root),
            hint="lint a git checkout",
        )
    names = sorted({name for name in listing.stdout.split("\0") if (root / name).is_file()})
    return Files(
        dockerfiles=tuple(name for name in names if is_dockerfile(name)),
        shell=tuple(name for name in names if _is_shell(root, name)),
        workflows=tuple(name for name in names if is_workflow(name)),
    )


def is_dockerfile(name: str) -> bool:
    """Whether a path is a recipe of an image: Dockerfile, Dockerfile.x or x.Dockerfile."""
    base = PurePosixPath(name).name
    return base.split(".")[0] == "Dockerfile" or base.endswith(".Dockerfile")


def is_workflow(name: str) -> bool:
    """Whether GitHub runs the file."""
    path = PurePosixPath(name)
    return path.parent == PurePosixPath(".github/workflows") and path.suffix in (".yml", ".yaml")


def is_shell_line(line: str) -> bool:
    """Whether a file's first line hands it to a POSIX shell or one of its kin."""
    words: Iterable[str] = line.removeprefix("#!").split() if line.startswith("#!") else ()
    return any(PurePosixPath(word).name in _SHELLS for word in words)


def _is_shell(root: Path, name: str) -> bool:
    suffix = PurePosixPath(name).suffix
    if suffix:
        return suffix in (".sh", ".bash")
    with (root / name).open("rb") as stream:
        return is_shell_line(stream.readline(200).decode("utf-8", "replace"))
