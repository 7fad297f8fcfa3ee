"""Write files atomically and lock them between processes.

Locks are advisory (`flock`, through `filelock`), belong to an open file and end with it, so a
killed process leaves none behind.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of a network file system that has no locks."""

_POLL: Final = 0.1  # seconds between two attempts to lock; in between, an interrupt gets through


def write_atomically(path: Path, data: str | bytes, *, is_durable: bool = False) -> None:
    """Replace the content of a file in one step: readers see the old or the new, never a part.

    The folder is made if it is missing; an existing file's permissions are kept. Text is written
    as UTF-8.

    Args:
        path: the file.
        data: its new content.
        is_durable: return only when the content is on the disk.

    Raises:
        OSError: it cannot be written; the file is as it was, and nothing else is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(content)
            if is_durable:
                stream.flush()
                os.fsync(stream.fileno())
        with suppress(OSError):  # there is no old file, or the file system has no permissions
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if is_durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable, where the file system can do that."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def open_locked(
    path: Path, on_wait: Callable[[], None] = lambda: None, *, without_locks: bool = False
) -> int:
    """Open a file for reading and writing, created if missing, and lock it exclusively.

    Args:
        path: the file. Whoever held the lock before may have renamed or removed it; then the new
            file of that name is opened and locked.
        on_wait: called repeatedly while another process holds the lock.
        without_locks: open it also where the file system has no locks.

    Returns:
        The file descriptor; closing it releases the lock.

    Raises:
        OSError: it cannot be opened, or (one of `NO_LOCKS`) not locked.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                while not _lock(fd):
                    on_wait()
                    time.sleep(_POLL)
            except OSError as error:
                if not without_locks or error.errno not in NO_LOCKS:
                    raise
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


@contextmanager
def exclusive_lock(path: Path, *, without_locks: bool) -> Iterator[bool]:
    """Try once to lock an existing file or folder exclusively, until the block ends.

    Args:
        path: the file or folder.
        without_locks: what to yield where the file system has no locks.

    Yields:
        True if this process holds the lock, False if another process holds one.

    Raises:
        OSError: the path cannot be opened.
    """
    fd = _open_for_lock(path)
    try:
        try:
            is_locked = _lock(fd)
        except OSError:
            is_locked = without_locks
        yield is_locked
    finally:
        os.close(fd)


@contextmanager
def shared_lock(path: Path) -> Iterator[bool]:
    """Lock a file or folder shared, until the block ends; do nothing without locks.

    Several processes may hold it at once; `exclusive_lock` fails meanwhile.

    Yields:
        False if another process removed or replaced the file before it was locked.

    Raises:
        OSError: it cannot be opened.
    """
    import fcntl

    fd = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_SH)  # `filelock` has no shared lock without files of its own
        try:
            is_current = os.path.samestat(os.fstat(fd), path.stat())
        except FileNotFoundError:
            is_current = False
        yield is_current
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock on a file or folder.

    False where there is no such file, it may not be opened, or the file system has no locks.
    """
    try:
        with exclusive_lock(path, without_locks=True) as is_free:
            return not is_free
    except OSError:
        return False


def _open_for_lock(path: Path) -> int:
    """Open for writing if possible: NFS grants exclusive locks on no other files."""
    try:
        return os.open(path, os.O_RDWR)
    except (IsADirectoryError, PermissionError):
        return os.open(path, os.O_RDONLY)


def _lock(fd: int) -> bool:
    """Lock an open file exclusively; False if another process holds it."""
    from filelock import lock_descriptor

    return lock_descriptor(fd, blocking=False)
