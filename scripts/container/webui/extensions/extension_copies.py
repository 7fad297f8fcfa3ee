"""Copy extensions into the data folder, where the WebUI looks for them and where they may write.

Extensions write into their own folders: settings, lists, databases. Several do not load, or stop
the API, where they cannot (docs/explanation/extensions.md). So each gets a copy that belongs to the
serving user. Large files, such as weights, are linked to where they are.

A list in the data folder names the copies that a worker made; nothing else in it is replaced or
removed. A copy is made beside the folder that the WebUI reads and then renamed, so a start that was
killed leaves no part of one there.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.models.folder_listing import describe_error
from scripts.container.webui.extensions.find_extensions import (
    COPIES_LIST,
    Extension,
    read_own_copies,
)

LARGE: Final = 10_000_000
"""Bytes from which on a file is linked: what extensions rewrite is smaller."""

_WORKSHOP: Final = ".extension-copies"  # in the data folder, for copies that are being made
_AT_ONCE: Final = 16  # files; a network file system answers in parallel
_IGNORED: Final = {".git", "__pycache__"}
_IN_THE_WAY: Final = (errno.ENOTEMPTY, errno.EEXIST)


def make_copies(
    data_dir: Path,
    extensions: Sequence[Extension],
    additions: Mapping[str, Path],
    timeout: float,
) -> dict[str, str]:
    """Make the copies of extensions, and remove those of an earlier start that are not wanted.

    A copy whose source has not changed stays, with what the extension has written into it.

    Args:
        data_dir: the data folder.
        extensions: those to copy.
        additions: by name, a folder whose files go over those of the extension.
        timeout: seconds for all of them.

    Returns:
        Why one could not be copied, by name.

    Raises:
        OSError: the list of copies cannot be written.
    """
    before = read_own_copies(data_dir)
    if not before and not extensions:
        return {}
    names = {each.name for each in extensions}
    for name in before.keys() - names:
        shutil.rmtree(data_dir / "extensions" / name, ignore_errors=True)
    kept = {name: before.get(name, "") for name in names}
    # Before the first copy: one that is on no list would later count as a user's own.
    _write_list(data_dir, kept)
    calls = {
        each.name: partial(_make_copy, data_dir, each, additions.get(each.name), kept[each.name])
        for each in extensions
    }
    results = dict(run_concurrently(calls, _AT_ONCE, timeout=timeout))
    failures = {}
    for name in names:
        made = results.get(name, UserError(f"it was not copied within {timeout:.0f} s"))
        kept[name] = "" if isinstance(made, UserError) else made
        if isinstance(made, UserError):
            failures[name] = made.message
    _write_list(data_dir, kept)
    shutil.rmtree(data_dir / _WORKSHOP, ignore_errors=True)
    return failures


def _make_copy(data_dir: Path, extension: Extension, added: Path | None, present: str) -> str:
    """Copy one extension unless its copy is there; return the fingerprint of what was copied.

    Raises:
        UserError: it cannot be read or written.
    """
    place, workshop = data_dir / "extensions" / extension.name, data_dir / _WORKSHOP
    partial_copy = workshop / extension.name
    try:
        fingerprint = fingerprint_tree(extension.path, added)
        if present == fingerprint and place.is_dir():
            return fingerprint
        shutil.rmtree(partial_copy, ignore_errors=True)
        copy_tree(extension.path, partial_copy)
        if added:
            copy_tree(added, partial_copy)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        try:
            partial_copy.rename(place)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:  # another worker with this data folder was faster
                raise
    except OSError as error:
        raise UserError(f"its folder cannot be copied: {describe_error(error)}") from None
    return fingerprint


def fingerprint_tree(*folders: Path | None) -> str:
    """Return a text that changes with names, sizes and times of the files in folders.

    Raises:
        OSError: they cannot be read.
    """
    digest = hashlib.sha256()
    for folder in filter(None, folders):
        digest.update(f"{folder}\n".encode())
        for path in list_tree(folder):
            state = path.lstat()
            if S_ISDIR(state.st_mode):
                continue
            line = f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def list_tree(folder: Path) -> Iterator[Path]:
    """Yield all that is below a folder, each folder before its content; links are not followed.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        yield from (Path(parent, name) for name in sorted((*files, *folders)))


def list_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files below a folder, by relative path.

    Files of git and bytecode are left out.

    Raises:
        OSError: it cannot be read.
    """
    states = {}
    for path in list_tree(folder):
        relative, state = path.relative_to(folder), path.lstat()
        if S_ISREG(state.st_mode) and not _IGNORED.intersection(relative.parts):
            states[str(relative)] = (state.st_size, state.st_mtime_ns)
    return states


def copy_changes(folder: Path, target: Path, before: Mapping[str, tuple[int, int]]) -> None:
    """Copy the files of a folder that are new or were changed; make no folder where there are none.

    Args:
        folder: the folder.
        target: folder for them; they keep their relative paths.
        before: earlier states, of `list_states`.

    Raises:
        OSError: one cannot be read or written.
    """
    for name, state in list_states(folder).items():
        if before.get(name) != state:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, target / name)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder over another: small files copied, large ones linked, links kept.

    Raises:
        OSError: something cannot be read or written.
    """
    copies: dict[Path, Callable[[], None]] = {}
    target.mkdir(parents=True, exist_ok=True)
    for path in list_tree(source):
        copy = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            copy.mkdir(exist_ok=True)  # git knows a repository by its folders, empty ones too
        else:
            copies[copy] = partial(_copy_file, path, copy, source)
    # A large file counts as quickly done as a small one: it is not read.
    for _ in run_concurrently(copies, _AT_ONCE):
        pass


def _copy_file(path: Path, copy: Path, source: Path) -> None:
    state = path.lstat()
    copy.unlink(missing_ok=True)
    if path.is_symlink():
        copy.symlink_to(_keep_link(path, source))
    elif S_ISREG(state.st_mode) and state.st_size >= LARGE:
        copy.symlink_to(path)
    elif S_ISREG(state.st_mode):  # neither sockets nor devices
        shutil.copyfile(path, copy)
        # The time, too: Python compares it with that in the bytecode.
        os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns))
        copy.chmod(state.st_mode & 0o777 | 0o600)


def _keep_link(link: Path, source: Path) -> str:
    """Return where the copy of a link leads: a relative one that leaves the folder is absolute."""
    target = link.readlink()
    absolute = Path(os.path.normpath(link.parent / target))
    return str(target if absolute.is_relative_to(source) else absolute)


def _write_list(data_dir: Path, copies: Mapping[str, str]) -> None:
    write_atomically(data_dir / COPIES_LIST, json.dumps(copies, indent=0, sort_keys=True) + "\n")
