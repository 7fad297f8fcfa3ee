"""The file a download grows in: locked between processes, resumed after a kill, renamed when right.

For `model` it is `model.partial`, and `model.partial.json` says what its bytes were part of. The
lock is on the partial file itself, so it ends with the process and leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time
from scripts.common.files import NO_LOCKS, open_locked, sync_folder


@dataclass(frozen=True)
class Origin:
    """What a partial file's bytes are part of.

    Args:
        url: where they came from, without what may be secret.
        validator: the answer's strong ETag, or else its Last-Modified; empty where it had none.
        sha256: what the whole must have; empty where that is unknown.
    """

    url: str
    validator: str = ""
    sha256: str = ""


class Partial:
    """An open, locked partial file.

    Args:
        dest: the final name.
        path: the partial file's name.
        fd: the open partial file.
    """

    def __init__(self, dest: Path, path: Path, fd: int) -> None:
        self.dest, self.path, self.fd = dest, path, fd
        self._origin = self.path.with_name(f"{self.path.name}.json")

    @property
    def length(self) -> int:
        """Bytes so far."""
        return os.fstat(self.fd).st_size

    @property
    def origin(self) -> Origin | None:
        """What `note` said of the bytes; None where that is not known."""
        try:
            return Origin(**json.loads(self._origin.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Empty the file, then note what its bytes will be part of."""
        os.ftruncate(self.fd, 0)
        self._origin.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def discard(self) -> None:
        """Remove it."""
        self._origin.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, sha256: str) -> None:
        """Give it the final name, all bytes on disk first, with the mode and time of a layer."""
        os.fchmod(self.fd, 0o644)
        os.utime(self.fd, (layer_time(sha256),) * 2)
        os.fsync(self.fd)
        self.path.rename(self.dest)
        self._origin.unlink(missing_ok=True)
        sync_folder(self.dest.parent)


def partial_path(dest: Path) -> Path:
    """Where a download to `dest` grows."""
    return dest.with_name(f"{dest.name}.partial")


@contextmanager
def locked_partial(dest: Path, waiting: Callable[[], None]) -> Iterator[Partial]:
    """The partial file of `dest`, for this process alone.

    Args:
        dest: the final name; its folder is made.
        waiting: called again and again while another process holds the lock.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = partial_path(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        try:
            fd = open_locked(path, waiting)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # A network file system without locks: a name of this process's own is as safe,
            # but nobody waits for it, and nobody resumes it.
            path.unlink(missing_ok=True)  # it was just made, and is empty
            path = dest.with_name(f"{dest.name}.{socket.gethostname()}-{os.getpid()}.partial")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(error, path) from None
    try:
        yield Partial(dest, path, fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise unwritable(error, path) from None
        raise
    finally:
        os.close(fd)


def unwritable(error: OSError, path: Path) -> UserError:
    """The failure that an error of writing to `path` is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "the disk is full; what was fetched is kept and the next run resumes it",
            location=str(path.parent),
            code="disk-full",
        )
    return UserError(
        f"the store cannot be written to: {error.strerror}",
        location=str(path.parent),
        code="store-unwritable",
    )
