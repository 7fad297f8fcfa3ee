"""Moves an HTTP body into a file while another thread hashes it: one pass, no second read."""

from __future__ import annotations

import hashlib
import http.client
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Final

from scripts.common.fetch.http import Retry
from scripts.common.fetch.local_file import Answer
from scripts.common.fetch.retry_policy import RetryPolicy

CHUNK: Final = 1 << 20
_AHEAD: Final = 8  # chunks on their way to be hashed; with CHUNK, what one download keeps in memory
_FLUSH: Final = 1 << 25  # bytes after which the kernel is asked to begin writing them out


def pump(
    answer: Answer, fd: int, offset: int, digest: hashlib._Hash, line: RetryPolicy
) -> Iterator[int]:
    """Write a body to a file and feed it to a checksum.

    Args:
        answer: the body, read to its end.
        fd: the file.
        offset: where the body's first byte belongs.
        digest: fed with every byte that was yielded, at the latest when the iteration ends.
        line: how slow the peer may be.

    Yields:
        Bytes written, chunk by chunk.

    Raises:
        Retry: the connection broke or is too slow.
        OSError: the file cannot be written to.
    """
    left = None if answer.chunked else answer.length
    pace, flushed = _Pace(line), offset
    with _Hasher(digest) as hasher:
        while True:
            buffer = hasher.buffer()
            count = _receive(answer, buffer if left is None else buffer[:left])
            if not count:
                return
            _write_all(fd, buffer[:count], offset)
            hasher.feed(buffer, count)
            offset += count
            if left is not None:
                left -= count
            if offset - flushed >= _FLUSH:
                _begin_writing_out(fd, flushed, offset - flushed)
                flushed = offset
            yield count
            pace.check(count)


def _receive(answer: Answer, buffer: memoryview) -> int:
    """Take what has arrived, at least one byte unless the body is over."""
    try:
        if not answer.chunked:
            # readinto1() of the response itself would do, but HTTPResponse has only readinto(),
            # which waits until the buffer is full and so hides a peer that trickles.
            return answer.fp.readinto1(buffer) if buffer else 0
        some = answer.read1(len(buffer))
        buffer[: len(some)] = some
        return len(some)
    except TimeoutError:
        raise Retry("the connection stalled") from None
    except (OSError, http.client.HTTPException) as error:
        raise Retry(f"the connection broke: {error}") from None


def _write_all(fd: int, chunk: memoryview, offset: int) -> None:
    written = 0
    while written < len(chunk):
        written += os.pwrite(fd, chunk[written:], offset + written)


def _begin_writing_out(fd: int, start: int, length: int) -> None:
    """Let the disk work while the network does, so that the final fsync has little left to do.

    Linux starts write-back of dirty pages on this advice, and only drops clean ones.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


class _Hasher:
    """A thread that hashes buffers in order; hashlib releases the interpreter while it works."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        for _ in range(_AHEAD):
            self._free.put(memoryview(bytearray(CHUNK)))

    def buffer(self) -> memoryview:
        """An empty buffer, waiting until one has been hashed."""
        return self._free.get()

    def feed(self, buffer: memoryview, count: int) -> None:
        """Hash the first bytes of a buffer and take it back."""
        self._full.put((buffer, count))

    def _work(self) -> None:
        while job := self._full.get():
            buffer, count = job
            self._digest.update(buffer[:count])
            self._free.put(buffer)

    def __enter__(self) -> _Hasher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._full.put(None)
        self._thread.join()


class _Pace:
    """Notices a peer that trickles."""

    def __init__(self, line: RetryPolicy) -> None:
        self._line = line
        self._since, self._bytes = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Count bytes; a window of `stall` seconds with too few of them ends the connection."""
        self._bytes += count
        elapsed = time.monotonic() - self._since
        if elapsed < self._line.stall:
            return
        if self._bytes < self._line.slowest * elapsed:
            raise Retry(f"the connection crawled at {self._bytes / elapsed:.0f} bytes a second")
        self._since, self._bytes = time.monotonic(), 0
