"""The model store: one verified copy of each content, and names linked to it.

- `objects/ab/abcd…`: a verified file, named by its SHA-256, with its stamp beside it;
- `names/MODEL/FILE`: hard links (or reflinks, or copies) for people and tools;
- `known/…`: which content an immutable Hub address was found to have;
- `incoming/…`: downloads whose SHA-256 is not known before they are complete;
- `checkouts/…`: which checkouts use the store, so that `models.prune` asks all of them.

Several checkouts and processes may share a store; nothing in it is ever changed in place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import unwritable
from scripts.common.fetch.stamps import read_stamp, stamp_path, write_stamp
from scripts.common.files import sync_folder, write_atomically

CONTEXT_PREFIX = "context-"
"""Folders in the store that hold a build context while a build runs."""

_FICLONE = 0x40049409  # linux/fs.h: share a file's blocks
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)


@dataclass(frozen=True)
class Store:
    """A store below a folder, which need not exist yet.

    Args:
        root: the folder.
    """

    root: Path

    def object_path(self, sha256: str) -> Path:
        """Where content of that SHA-256 lies, or will."""
        return self.root / "objects" / sha256[:2] / sha256

    def incoming_path(self, origin: str) -> Path:
        """Where a file of unknown SHA-256 is fetched to; the same for every run."""
        return self.root / "incoming" / _short(origin)

    def objects(self) -> Iterator[Path]:
        """Every object, partial files not among them."""
        for path in sorted(self.root.glob("objects/??/*")):
            if len(path.name) == 64:
                yield path

    def partials(self) -> Iterator[Path]:
        """Every partial file, and what belongs to it."""
        yield from sorted(self.root.glob("objects/??/*.partial*"))
        yield from sorted(self.root.glob("incoming/*"))

    def names(self) -> Iterator[Path]:
        """Every name of an object."""
        yield from (path for path in sorted(self.root.glob("names/**/*")) if path.is_file())

    def register(self, checkout: Path) -> None:
        """Note that a checkout uses this store."""
        path = self.root / "checkouts" / _short(str(checkout))
        if not path.exists():
            _note(path, str(checkout))

    def checkouts(self) -> list[Path]:
        """Every checkout that was registered."""
        return [Path(path.read_text()) for path in self.root.glob("checkouts/*")]

    def adopt(self, path: Path, sha256: str) -> Path:
        """Move a verified file to its place among the objects.

        Args:
            path: a file of this store's `incoming`.
            sha256: what it was verified to have.

        Returns:
            The object.
        """
        target = self.object_path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(path, target)  # unlike a rename, never replaces
                _keep_stamp(path, target)
                sync_folder(target.parent)
        except FileExistsError:
            pass  # another process had the same content; its copy is as good
        except OSError as error:
            raise unwritable(error, target) from None
        path.unlink(missing_ok=True)
        stamp_path(path).unlink(missing_ok=True)
        return target

    def name(self, sha256: str, model: str, file: str) -> Path:
        """Give an object a name for people, `names/MODEL/FILE`; the name's path."""
        path = self.root / "names" / model / file
        source = self.object_path(sha256)
        if path.exists() and path.samefile(source):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replaced = path.with_name(f"{path.name}.{os.getpid()}")
            place(source, replaced)
            replaced.replace(path)
        except OSError as error:
            raise unwritable(error, path) from None
        return path

    def remember(self, origin: str, sha256: str) -> None:
        """Note the content of an immutable address."""
        _note(self._known(origin), json.dumps({"origin": origin, "sha256": sha256}))

    def recall(self, origin: str) -> str:
        """SHA-256 of an immutable address as `remember` was told; empty where it was not."""
        try:
            noted = json.loads(self._known(origin).read_text(encoding="utf-8"))
            return str(noted["sha256"]) if noted["origin"] == origin else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _known(self, origin: str) -> Path:
        return self.root / "known" / _short(origin)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _note(path: Path, text: str) -> None:
    """Write a small file in one step; in a read-only store not at all, which only costs time."""
    with suppress(OSError):
        write_atomically(path, text)


def _keep_stamp(old: Path, new: Path) -> None:
    stamp = read_stamp(old)
    if stamp:
        write_stamp(new, stamp)


def place(source: Path, dest: Path) -> None:
    """Make `dest` the same file as `source`: a hard link, or a reflink, or at worst a copy.

    Args:
        source: an object.
        dest: a path that does not exist, in a folder that does.

    Raises:
        OSError: none of the three works.
        UserError: there is no `source`.
    """
    if not source.exists():
        raise UserError(
            "the store lost a file", location=str(source), hint="run: invoke models.prefetch"
        )
    try:
        os.link(source, dest)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(source, dest)


def _copy(source: Path, dest: Path) -> None:
    with source.open("rb") as old, dest.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
        os.fchmod(new.fileno(), 0o644)
    os.utime(dest, (source.stat().st_mtime,) * 2)
