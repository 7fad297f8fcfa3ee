"""Keep one verified copy of each content in the model store, and names linked to it.

- `objects/ab/abcd…`: a verified file, named by its SHA-256, with its stamp beside it;
- `names/MODEL/FILE`: hard links (or reflinks, or copies) for people and tools;
- `known/…`: the SHA-256 that an immutable Hub address was found to have;
- `incoming/…`: downloads of unknown SHA-256;
- `checkouts/…`: the checkouts that use the store, so that `models.prune` asks all of them.

Several checkouts and processes may share a store; nothing in it is ever changed in place.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import store_error
from scripts.common.fetch.spec import ArtifactSpec, ProgressCallback, VerifiedFile, no_progress
from scripts.common.fetch.stamps import find_verified, stamp_path, verify_file
from scripts.common.files import sync_folder, write_atomically
from scripts.host.models.artifacts import Artifact

StoredFiles = dict[Artifact, VerifiedFile]
"""Artifacts and their files in the store."""

CONTEXT_PREFIX: Final = "context-"
"""Prefix of folders in the store that hold a build context while a build runs."""

_FICLONE: Final = 0x40049409  # linux/fs.h: share a file's blocks
_NO_LINKS: Final = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)


@dataclass(frozen=True)
class Store:
    """A store below a folder, which need not exist yet.

    Args:
        root: the folder.
    """

    root: Path

    def find_stored(self, artifacts: Iterable[Artifact]) -> StoredFiles:
        """Find the artifacts that stamps show verified; read no file and ask no network."""
        stored = {}
        for artifact in artifacts:
            spec = self._expected(artifact)
            file = find_verified(spec, self.object_path(spec.sha256)) if spec.sha256 else None
            if file:
                stored[artifact] = file
        return stored

    def verify(
        self,
        artifact: Artifact,
        *,
        rehash: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> VerifiedFile | None:
        """Find a file as `find_stored` does, but read it if its stamp is not valid.

        Args:
            artifact: the file.
            rehash: read it in any case.
            on_progress: called with the bytes read.

        Returns:
            The file; None if it is not there.

        Raises:
            UserError: it is there and damaged (code `model-damaged`).
        """
        spec = self._expected(artifact)
        path = self.object_path(spec.sha256)
        if not spec.sha256 or not path.exists():
            return None
        return verify_file(spec, path, rehash=rehash, on_progress=on_progress)

    def _expected(self, artifact: Artifact) -> ArtifactSpec:
        """Return what a file must be, by `known` where config and lock give no SHA-256."""
        return replace(artifact.spec, sha256=self.known_sha256(artifact))

    def known_sha256(self, artifact: Artifact) -> str:
        """Return the SHA-256 of a file, if necessary as `remember` recorded it; empty if none."""
        return artifact.spec.sha256 or self.recall(artifact.origin)

    def object_path(self, sha256: str) -> Path:
        """Return the path for content of that SHA-256."""
        return self.root / "objects" / sha256[:2] / sha256

    def incoming_path(self, address: str) -> Path:
        """Return the path for downloading a file of unknown SHA-256; the same for every run."""
        return self.root / "incoming" / _short(address)

    def name_path(self, model: str, file: str) -> Path:
        """Return the path of a file's name for people."""
        return self.root / "names" / model / file

    def objects(self) -> Iterator[Path]:
        """List every object, without partial files."""
        yield from (path for path in sorted(self.root.glob("objects/??/*")) if len(path.name) == 64)

    def partials(self) -> Iterator[Path]:
        """List every partial file, and what belongs to it."""
        yield from sorted(self.root.glob("objects/??/*.partial*"))
        yield from sorted(self.root.glob("incoming/*"))

    def names(self) -> Iterator[Path]:
        """List every name of an object."""
        yield from (path for path in sorted(self.root.glob("names/**/*")) if path.is_file())

    def register(self, checkout: Path) -> None:
        """Record that a checkout uses this store."""
        path = self.root / "checkouts" / _short(str(checkout))
        if not path.exists():
            _record(path, str(checkout))

    def checkouts(self) -> list[Path]:
        """List every checkout that was registered."""
        return [Path(path.read_text()) for path in self.root.glob("checkouts/*")]

    def adopt(self, path: Path, sha256: str) -> Path:
        """Move a verified file of `incoming` to its place among the objects, and return that."""
        target = self.object_path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(path, target)  # unlike a rename, never replaces
                with suppress(FileNotFoundError):
                    stamp_path(path).rename(stamp_path(target))
                sync_folder(target.parent)
        except FileExistsError:
            pass  # another process had the same content; its copy is as good
        except OSError as error:
            raise store_error(error, target) from None
        path.unlink(missing_ok=True)
        stamp_path(path).unlink(missing_ok=True)
        return target

    def name(self, sha256: str, model: str, file: str) -> Path:
        """Give an object a name for people, `names/MODEL/FILE`, and return its path."""
        path, source = self.name_path(model, file), self.object_path(sha256)
        if path.exists() and path.samefile(source):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replacement = path.with_name(f"{path.name}.{os.getpid()}")
            place(source, replacement)
            replacement.replace(path)
        except OSError as error:
            raise store_error(error, path) from None
        return path

    def remember(self, origin: str, sha256: str) -> None:
        """Record the SHA-256 of an immutable address."""
        _record(self._known(origin), json.dumps({"origin": origin, "sha256": sha256}))

    def recall(self, origin: str) -> str:
        """Return the SHA-256 of an address as `remember` recorded it; empty if it did not."""
        try:
            stored = json.loads(self._known(origin).read_text(encoding="utf-8"))
            return str(stored["sha256"]) if stored["origin"] == origin else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _known(self, origin: str) -> Path:
        return self.root / "known" / _short(origin)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _record(path: Path, text: str) -> None:
    """Write a small file; not at all in a read-only store, which only costs time."""
    with suppress(OSError):
        write_atomically(path, text)


def place(source: Path, dest: Path) -> None:
    """Make `dest` the same file as `source`: a hard link, a reflink, or else a copy.

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
