"""Checksums of files, at the hardware's speed and in constant memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

CHUNK: Final = 1 << 18
"""Bytes hashed at once: fits a second-level cache, and hashlib lets other threads run meanwhile."""


def update_from(digest: hashlib._Hash, fd: int, progress: Callable[[int], None]) -> int:
    """Feed a file's bytes, from its start, to a checksum.

    Args:
        digest: what is fed.
        fd: the open file; its position is left alone.
        progress: called with the number of bytes read so far.

    Returns:
        How many bytes there were.
    """
    buffer = bytearray(CHUNK)
    view, done = memoryview(buffer), 0
    while count := os.preadv(fd, [buffer], done):
        digest.update(view[:count])
        done += count
        progress(done)
    return done


def sha256_of(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file as 64 hex digits.

    Args:
        path: the file.
        progress: called with the number of bytes read so far.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        update_from(digest, stream.fileno(), progress)
    return digest.hexdigest()


def layer_time(sha256: str) -> int:
    """The time, in seconds since the epoch, that a file of that content gets in an image.

    The same bytes make the same layer on every machine, whenever they came. Other bytes of the same
    length have another time: a builder that was sent a file before compares only length, mode and
    time, and would go on with the old one.
    """
    return int(sha256[:7], 16)


def git_blob_of(path: Path) -> str:
    """The id git gives the file, which the Hub sends as the ETag of files that are not LFS.

    See https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        update_from(digest, stream.fileno(), lambda _: None)
    return digest.hexdigest()
