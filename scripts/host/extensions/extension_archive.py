"""Keep an extension as one file of the store: its files at a commit, and what git says of it.

The archive is a tar file of the files below `tree/`, the object `commit`, and `facts.json`. With
another format, `ResolvedExtension.archive_key` must change, so that those in a store are not used.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.fetch.hashing import layer_time
from scripts.host.extensions.git_tree import RepositoryReader, Submodule, TreeFile

_TREE: Final = "tree/"
# A pointer has less than 1024 bytes: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER: Final = re.compile(rb"version https://(git-lfs\.github\.com|hawser\.github\.com)/")
_POINTER_SIZE: Final = 1024


@dataclass(frozen=True)
class ExtensionFacts:
    """Describe an extension in its archive, besides its files.

    Args:
        commit: the object of its commit.
        submodules: the repositories inside it.
        pointers: files of which the repositories hold only a Git LFS pointer.
    """

    commit: bytes
    submodules: tuple[Submodule, ...]
    pointers: tuple[str, ...]


def write_archive(path: Path, reader: RepositoryReader, git: Path, url: str, commit: str) -> None:
    """Write the archive of a fetched repository, and of its submodules.

    Args:
        path: the archive, which must not exist.
        reader: reads repositories, and fetches the submodules.
        git: the fetched repository.
        url: its address, without a mirror.
        commit: 40 hex digits.

    Raises:
        UserError: a submodule cannot be fetched, or the repository cannot be laid out.
        OSError: the archive cannot be written.
    """
    with path.open("xb") as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            _add(tar, "commit", reader.read_commit(git, commit))
            pointers = [
                file.path for file in reader.read_files(git, url, commit) if _add_file(tar, file)
            ]
            submodules = [vars(each) for each in reader.submodules]
            facts = {"submodules": submodules, "pointers": pointers}
            _add(tar, "facts.json", json.dumps(facts).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _add_file(tar: tarfile.TarFile, file: TreeFile) -> bool:
    """Add a file of a repository, and return whether it is a Git LFS pointer."""
    member = tarfile.TarInfo(_TREE + file.path)
    if file.is_link:
        member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(file.content)
        tar.addfile(member)
        return False
    member.mode = 0o755 if file.is_program else 0o644
    _add(tar, member, file.content)
    return len(file.content) < _POINTER_SIZE and bool(_POINTER.match(file.content))


def _add(tar: tarfile.TarFile, member: tarfile.TarInfo | str, content: bytes) -> None:
    member = tarfile.TarInfo(member) if isinstance(member, str) else member
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def read_facts(path: Path) -> ExtensionFacts:
    """Read what a verified archive says of its extension."""
    with tarfile.open(path, "r:") as tar:
        facts, commit = tar.extractfile("facts.json"), tar.extractfile("commit")
        if facts is None or commit is None:
            raise tarfile.TarError("a member is not a file")
        found = json.loads(facts.read())
        return ExtensionFacts(
            commit.read(),
            tuple(Submodule(**each) for each in found["submodules"]),
            tuple(found["pointers"]),
        )


def unpack(path: Path, folder: Path, without: Collection[str] = ()) -> None:
    """Write the files of a verified archive with modes and times that are the same everywhere.

    Args:
        path: the archive.
        folder: an existing folder; those below it are made.
        without: files to leave out.
    """
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name = member.name.removeprefix(_TREE)
            if name == member.name or name in without:
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                target.symlink_to(member.linkname)
                continue
            stream = tar.extractfile(member)
            content = stream.read() if stream else b""
            write_layer_file(target, content, is_program=bool(member.mode & 0o100))


def write_layer_file(path: Path, content: bytes, *, is_program: bool = False) -> None:
    """Write a file as a layer of the image has it; see `layer_time`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if is_program else 0o644)
    os.utime(path, (layer_time(hashlib.sha256(content).hexdigest()),) * 2)


def settle_tree(folder: Path) -> None:
    """Give folders and symbolic links modes and times that are the same everywhere."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink():
                os.utime(path, (0, 0), follow_symlinks=False)
        Path(parent).chmod(0o755)
        os.utime(parent, (0, 0))
