"""Hash files at the hardware's speed and in constant memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

CHUNK: Final = 1 << 18
"""Bytes hashed at once: fits a second-level cache, and hashlib lets other threads run meanwhile."""


def hash_open_file(digest: hashlib._Hash, fd: int, on_progress: Callable[[int], None]) -> int:
    """Add the bytes of an open file, from its start, to a digest; return how many there are.

    The file's position stays. `on_progress` is called with the number of bytes read so far.
    """
    buffer = bytearray(CHUNK)
    view, done = memoryview(buffer), 0
    while count := os.preadv(fd, [buffer], done):
        digest.update(view[:count])
        done += count
        on_progress(done)
    return done


def sha256_of(path: Path, on_progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file as 64 hex digits.

    `on_progress` is called with the number of bytes read so far.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        hash_open_file(digest, stream.fileno(), on_progress)
    return digest.hexdigest()


def layer_time(sha256: str) -> int:
    """Return the modification time, in seconds since the epoch, of a file with that content.

    The same bytes make the same image layer on every machine, whenever they were downloaded. Other
    bytes of the same length have another time: BuildKit compares only length, mode and time of a
    file that it was sent before, and would go on with the old one.
    """
    return int(sha256[:7], 16)


def git_blob_of(path: Path) -> str:
    """Return the git blob ID of a file, which the Hub sends as ETag of files that are not LFS.

    See https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        hash_open_file(digest, stream.fileno(), lambda _: None)
    return digest.hexdigest()
