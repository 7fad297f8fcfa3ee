"""Keep a download in a partial file: locked between processes, resumable, renamed when verified.

For `model` it is `model.partial`, and `model.partial.json` records what its bytes are part of. The
lock is on the partial file itself, so it ends with the process and leaves nothing behind.
"""

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
    """The file that a partial file's bytes are part of.

    Args:
        url: its address, without what may be secret.
        validator: the response's strong ETag, else its Last-Modified; empty if it had none.
        sha256: its expected SHA-256; empty if unknown.
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
        self._origin_path = path.with_name(f"{path.name}.json")

    @property
    def length(self) -> int:
        """Size in bytes."""
        return os.fstat(self.fd).st_size

    @property
    def origin(self) -> Origin:
        """The origin recorded for the bytes; an empty one if there is no valid record."""
        try:
            return Origin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Origin("")

    def restart(self, origin: Origin) -> None:
        """Empty the file, then record the origin of its future bytes."""
        os.ftruncate(self.fd, 0)
        self._origin_path.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def discard(self) -> None:
        """Remove the file."""
        self._origin_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, sha256: str) -> None:
        """Flush the file to disk and give it its final name, with the mode and time of a layer."""
        os.fchmod(self.fd, 0o644)
        os.utime(self.fd, (layer_time(sha256),) * 2)
        os.fsync(self.fd)
        self.path.rename(self.dest)
        self._origin_path.unlink(missing_ok=True)
        sync_folder(self.dest.parent)


def partial_path(dest: Path) -> Path:
    """Return the name of the partial file of `dest`."""
    return dest.with_name(f"{dest.name}.partial")


@contextmanager
def locked_partial(dest: Path, on_wait: Callable[[], None]) -> Iterator[Partial]:
    """Open the partial file of `dest` for this process alone.

    Args:
        dest: the final name; its folder is made.
        on_wait: called repeatedly while another process holds the lock.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = partial_path(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        try:
            fd = open_locked(path, on_wait)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # A network file system without locks: a name of this process's own is as safe, but no
            # other process waits for it or resumes it.
            path.unlink(missing_ok=True)  # it was just made, and is empty
            path = dest.with_name(f"{dest.name}.{socket.gethostname()}-{os.getpid()}.partial")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_error(error, path) from None
    try:
        yield Partial(dest, path, fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise store_error(error, path) from None
        raise
    finally:
        os.close(fd)


def store_error(error: OSError, path: Path) -> UserError:
    """Explain an error of writing to `path` (codes `disk-full`, `store-unwritable`)."""
    location = str(path.parent)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "the disk is full; the bytes received are kept, and the next run resumes"
        return UserError(message, location=location, code="disk-full")
    message = f"the store cannot be written to: {error.strerror}"
    return UserError(message, location=location, code="store-unwritable")
