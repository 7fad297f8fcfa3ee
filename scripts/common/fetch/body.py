"""Write a response body to a file while another thread hashes it: one pass, no second read."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from scripts.common.fetch.http import Response
from scripts.common.fetch.http_errors import RetryableError
from scripts.common.fetch.spec import RetryPolicy

CHUNK: Final = 1 << 20
_AHEAD: Final = 8  # chunks that wait to be hashed; with CHUNK, the memory one download takes
_FLUSH: Final = 1 << 25  # bytes after which the kernel is asked to begin writing them to disk


def write_body(
    response: Response, fd: int, offset: int, digest: hashlib._Hash, policy: RetryPolicy
) -> Iterator[int]:
    """Write a body to a file and add it to a digest.

    Args:
        response: the body, read to its end.
        fd: the file.
        offset: position of the body's first byte in the file.
        digest: holds every byte that was yielded, at the latest when the iteration ends.
        policy: how slow the server may be.

    Yields:
        Number of bytes written, chunk by chunk.

    Raises:
        RetryableError: the connection broke, or brought less than `min_rate` for `stall_timeout`.
        OSError: the file cannot be written.
    """
    flushed, since, received = offset, time.monotonic(), 0
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as hashing:
        while chunk := response.read_some(CHUNK):
            _write_all(fd, chunk, offset)
            waiting.append(hashing.submit(digest.update, chunk))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
            offset += len(chunk)
            if offset - flushed >= _FLUSH:
                _start_writeback(fd, flushed, offset - flushed)
                flushed = offset
            yield len(chunk)
            received += len(chunk)
            elapsed = time.monotonic() - since
            if elapsed >= policy.stall_timeout:
                if received < policy.min_rate * elapsed:
                    rate = f"{received / elapsed:.0f} bytes a second"
                    raise RetryableError(f"the connection slowed down to {rate}")
                since, received = time.monotonic(), 0
        for hashed in waiting:
            hashed.result()


def _write_all(fd: int, chunk: bytes, offset: int) -> None:
    written, view = 0, memoryview(chunk)
    while written < len(view):
        written += os.pwrite(fd, view[written:], offset + written)


def _start_writeback(fd: int, start: int, length: int) -> None:
    """Let the disk work while the network does, so that the final fsync has little left to do.

    Linux starts write-back of dirty pages on this advice, and drops only clean ones.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
