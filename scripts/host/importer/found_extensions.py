"""Find the extensions of an install: where each came from, its commit, and whether it was changed.

Git runs what a repository's own configuration names (`core.fsmonitor`, filters, hooks), and writes
to its index. So the repository is never opened as one: its HEAD is read as a file, and compared
through an empty repository elsewhere that borrows its objects and a copy of its index.
"""

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.common.run import run_program

_TIMEOUT: Final = 60.0  # seconds for one extension
_NO_SETTINGS: Final = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FoundExtension:
    """An extension in `extensions`.

    Args:
        name: its folder.
        remote: address that it was cloned from, without credentials; empty if unknown.
        commit: what is checked out; empty if unknown.
        changed: number of tracked files that differ from the commit; None if unknown.
        is_disabled: the settings switch it off.
    """

    name: str
    remote: str = ""
    commit: str = ""
    changed: int | None = None
    is_disabled: bool = False


def find_extensions(data: Path, disabled: Collection[str]) -> tuple[FoundExtension, ...]:
    """List the extensions of a data folder by name; nothing in it is run or written.

    Args:
        data: the data folder.
        disabled: names of switched-off extensions; `*` for all.

    Raises:
        UserError: the folder cannot be read, or git is not installed.
    """
    folder = data / "extensions"
    try:
        names = sorted(
            path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."
        )
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", location=str(folder)) from None
    return tuple(
        _describe(folder / name, is_disabled=bool({name, "*"} & set(disabled))) for name in names
    )


def _describe(folder: Path, *, is_disabled: bool) -> FoundExtension:
    git = folder / ".git"
    if not git.is_dir():
        return FoundExtension(folder.name, is_disabled=is_disabled)
    remote, commit = _read_remote(git), _read_commit(git)
    changed = _count_changes(folder, commit) if commit else None
    return FoundExtension(folder.name, remote, commit, changed, is_disabled)


def _read_remote(git: Path) -> str:
    """Return the address of `origin`; git parses the file without taking any setting of it."""
    command = ["git", "config", "--no-includes", "--file", str(git / "config")]
    with tempfile.TemporaryDirectory() as elsewhere:  # no repository, whose settings would count
        found = run_program(
            [*command, "--get", "remote.origin.url"],
            cwd=Path(elsewhere),
            env=_NO_SETTINGS,
            timeout=_TIMEOUT,
        )
    url = found.stdout.strip() if found.returncode == 0 else ""
    return redact_url(url) if "://" in url else url


def _read_commit(git: Path) -> str:
    """Return the commit of HEAD: itself, of a branch, or of a packed branch."""
    head = _read_line(git / "HEAD")
    name = head.removeprefix("ref:").strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else ""
    if ".." in name or not name.startswith("refs/"):
        return ""
    commit = _read_line(git / name)
    if _COMMIT.fullmatch(commit):
        return commit
    packed = (line.split() for line in _read_lines(git / "packed-refs"))
    return next((line[0] for line in packed if line[1:] == [name]), "")


def _read_line(path: Path) -> str:
    return next(_read_lines(path), "").strip()


def _read_lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return


def _count_changes(folder: Path, commit: str) -> int | None:
    """Return how many tracked files differ from a commit; None where git cannot say."""
    git = folder / ".git"
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / "git"
        run_program(["git", "init", "--quiet", "--bare", str(bare)], env=_NO_SETTINGS)
        (bare / "objects" / "info" / "alternates").write_text(f"{git.resolve() / 'objects'}\n")
        (bare / "HEAD").write_text(f"{commit}\n")
        try:
            shutil.copyfile(git / "index", bare / "index")
        except OSError:
            return None
        # Line ends of a checkout on Windows are no change.
        plain = ("-c", "core.autocrlf=input", "-c", "core.fileMode=false")
        where = (f"--git-dir={bare}", f"--work-tree={folder}")
        options = ("--porcelain", "--untracked-files=no", "--ignore-submodules=all")
        try:
            done = run_program(
                ["git", *plain, *where, "status", *options], env=_NO_SETTINGS, timeout=_TIMEOUT
            )
        except UserError:  # too slow a disk, or too large a repository
            return None
    return len(done.stdout.splitlines()) if done.returncode == 0 else None
