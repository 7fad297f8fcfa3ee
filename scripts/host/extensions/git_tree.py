"""Read all files of a repository at a commit, submodules included, straight from git's objects.

Nothing is checked out, so no filter, hook, attribute or setting of this machine changes a byte, and
no name in a repository reaches the file system before it is checked.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.host.config.addresses import apply_mirror, check_credentials
from scripts.host.git_sources import GitHosts

_SUBMODULE, _SYMLINK, _PROGRAM = "160000", "120000", "100755"
_REMOTE: Final = ("https", "http", "ssh")


@dataclass(frozen=True)
class Submodule:
    """A repository inside another one.

    Args:
        path: its folder in the outermost repository.
        url: its address, without a mirror.
        commit: the commit that the outer repository names.
    """

    path: str
    url: str
    commit: str


@dataclass(frozen=True)
class TreeFile:
    """A file at a commit.

    Args:
        path: relative to the outermost repository.
        content: its bytes; of a symbolic link its target.
        is_program: it may be executed.
        is_link: it is a symbolic link.
    """

    path: str
    content: bytes
    is_program: bool = False
    is_link: bool = False


@dataclass
class RepositoryReader:
    """The files of a repository at a commit.

    Args:
        hosts: where repositories are fetched.
        scratch: folder for what is fetched.
    """

    hosts: GitHosts
    scratch: Path

    def __post_init__(self) -> None:
        self.submodules: list[Submodule] = []
        self._paths: dict[str, bool] = {}

    def read_commit(self, git: Path, commit: str) -> bytes:
        """Return a commit's object, verified by its name.

        Raises:
            UserError: the repository holds something else under that name.
        """
        content = _run(git, "cat-file", "commit", commit)
        _verify(b"commit", content, commit)
        return content

    def read_files(self, git: Path, url: str, commit: str, prefix: str = "") -> Iterator[TreeFile]:
        """Yield every file, then those of the submodules, which are fetched; add to `submodules`.

        Args:
            git: the fetched repository.
            url: its address, without a mirror.
            commit: 40 hex digits.
            prefix: its folder in the outermost repository, with a slash at the end.

        Raises:
            UserError: a name leaves the folder or occurs twice, or a submodule cannot be fetched.
        """
        rows = _run(git, "ls-tree", "-r", "-z", commit).split(b"\0")[:-1]
        entries = [_parse_row(row) for row in rows]
        urls = _submodule_urls(git, commit) if any(e[0] == _SUBMODULE for e in entries) else {}
        inner = []
        with _Blobs(git) as blobs:
            for mode, name, path in entries:
                self._claim(prefix + path, url)
                if mode != _SUBMODULE:
                    content = blobs.read(name)
                    file = TreeFile(prefix + path, content, mode == _PROGRAM, mode == _SYMLINK)
                    _refuse_escape(file, prefix, url)
                    yield file
                elif path in urls:  # without an address, git leaves its folder empty, too
                    address = _join_url(url, urls[path])
                    inner.append(Submodule(prefix + path, address, name))
        for submodule in inner:
            self.submodules.append(submodule)
            address = apply_mirror(submodule.url, self.hosts.github)
            folder = self.hosts.fetch(address, submodule.commit, self.scratch)
            self._paths.pop(submodule.path)
            yield from self.read_files(
                folder, submodule.url, submodule.commit, f"{submodule.path}/"
            )

    def _claim(self, path: str, url: str) -> None:
        """Record a path, and refuse one that no honest repository has."""
        parts = path.split("/")
        parents = ["/".join(parts[:end]) for end in range(1, len(parts))]
        is_odd = any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
        is_file_above = any(self._paths.get(parent) for parent in parents)
        if is_odd or is_file_above or path in self._paths:
            raise UserError(f"the repository has the path {path!r}", location=redact_url(url))
        self._paths |= dict.fromkeys(parents, False)
        self._paths[path] = True


def _parse_row(row: bytes) -> tuple[str, str, str]:
    """Return mode, object and path of a row of `git ls-tree -z`."""
    facts, _, path = row.partition(b"\t")
    mode, _, name = facts.decode().split(" ")
    return mode, name, os.fsdecode(path)


def _submodule_urls(git: Path, commit: str) -> dict[str, str]:
    """Return the address of each submodule by its path, as `.gitmodules` has them."""
    source = f"--blob={commit}:.gitmodules"
    pattern = r"^submodule\..*\.(path|url)$"
    rows = _run(git, "config", source, "-z", "--get-regexp", pattern, missing_ok=True)
    found: dict[str, dict[str, str]] = {}
    for row in os.fsdecode(rows).split("\0")[:-1]:
        key, _, value = row.partition("\n")
        section, _, name = key.rpartition(".")
        found.setdefault(section, {})[name.lower()] = value
    return {each["path"]: each["url"] for each in found.values() if {"path", "url"} <= each.keys()}


def _join_url(parent: str, url: str) -> str:
    """Return a submodule's address, which may be relative to its parent's (git-submodule(1)).

    Raises:
        UserError: it is no address that a build may fetch.
    """
    if url.startswith(("./", "../")):
        base = urlsplit(parent)
        path = posixpath.normpath(posixpath.join(base.path, url))
        url = f"{base.scheme}://{base.netloc}{path}"
    url = re.sub(r"^([\w.-]+@[\w.-]+):(?!/)", r"ssh://\1/", url)  # git's short form of ssh
    scheme = urlsplit(url).scheme
    try:
        if scheme not in (*_REMOTE, urlsplit(parent).scheme):
            raise ValueError(f"{scheme or 'no scheme'} is not https, http or ssh")
        return check_credentials(url)
    except ValueError as error:
        raise UserError(
            f"the address of a submodule cannot be used: {error}", location=redact_url(parent)
        ) from None


def _refuse_escape(file: TreeFile, prefix: str, url: str) -> None:
    """Refuse a symbolic link that leaves its repository: it would point elsewhere in the image."""
    if not file.is_link:
        return
    target = os.fsdecode(file.content)
    folder = posixpath.dirname(file.path.removeprefix(prefix))
    inside = posixpath.normpath(posixpath.join(folder, target))
    if target.startswith("/") or inside.split("/")[0] == "..":
        raise UserError(f"{file.path} is a link out of its folder", location=redact_url(url))


class _Blobs:
    """Reads blobs of a repository through one process.

    Args:
        git: the repository.
    """

    def __init__(self, git: Path) -> None:
        command = ["git", f"--git-dir={git}", "cat-file", "--batch"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> _Blobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def read(self, name: str) -> bytes:
        """Return a blob, verified by its name."""
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise TypeError("both are pipes")
        asked.write(f"{name}\n".encode())
        asked.flush()
        _, _, size = answers.readline().partition(b" blob ")
        content = answers.read(int(size or 0))
        answers.read(1)  # the newline after it
        _verify(b"blob", content, name)
        return content


def _verify(kind: bytes, content: bytes, name: str) -> None:
    digest = hashlib.sha1(b"%s %d\0%s" % (kind, len(content), content), usedforsecurity=False)
    if digest.hexdigest() != name:
        raise UserError(f"git gave another {kind.decode()} than {name}", code="source-gone")


def _run(git: Path, *arguments: str, missing_ok: bool = False) -> bytes:
    """Run git in a fetched repository; its output."""
    command = ["git", f"--git-dir={git}", *arguments]
    done = subprocess.run(command, capture_output=True)
    if done.returncode and not missing_ok:
        reason = done.stderr.decode(errors="replace").strip()
        raise UserError(f"git: {reason}", code="source-gone")
    return done.stdout
