"""Describe what an extension is: its commit, and what its installer reads."""

import hashlib
import re
from pathlib import Path
from stat import S_ISREG
from typing import Final

from scripts.container.webui.extensions.extension_copies import LARGE, list_tree

_INSTALLER_FILES: Final = ("install.py", "requirements*.txt", "pyproject.toml")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def describe_source(extension: Path) -> dict[str, str]:
    """Return what decides which packages an extension needs.

    That is its commit, and the content of its installer's files, which a user may have edited;
    without a commit the content of all files.

    Args:
        extension: its folder.

    Raises:
        OSError: it cannot be read.
    """
    if commit := read_commit(extension):
        paths = [path for pattern in _INSTALLER_FILES for path in extension.glob(pattern)]
    else:
        paths = [path for path in list_tree(extension) if "__pycache__" not in path.parts]
    digest = hashlib.sha256()
    for path in sorted(paths):
        state = path.lstat()
        if not S_ISREG(state.st_mode):
            continue
        content = path.read_bytes() if state.st_size < LARGE else str(state.st_size).encode()
        digest.update(f"{path.relative_to(extension)}\0{len(content)}\0".encode())
        digest.update(content)
    return {"commit": commit, "sha256": digest.hexdigest()}


def read_commit(repository: Path) -> str:
    """Return the commit that a git repository is at; empty where there is none.

    Read without git, which refuses the repositories of other users.

    Raises:
        OSError: it cannot be read.
    """
    git = repository / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return ""
    if _COMMIT.fullmatch(head):
        return head
    ref = head.removeprefix("ref: ")
    if ".." in ref or not ref.startswith("refs/"):
        return ""
    if (git / ref).is_file():
        commit = (git / ref).read_text(encoding="utf-8", errors="replace").strip()
        return commit if _COMMIT.fullmatch(commit) else ""
    packed = git / "packed-refs"
    lines = packed.read_text(errors="replace").splitlines() if packed.is_file() else []
    rows = (line.split() for line in lines if _COMMIT.match(line))
    return next((row[0] for row in rows if row[1:] == [ref]), "")
