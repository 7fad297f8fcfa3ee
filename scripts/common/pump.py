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

from scripts.common.web import Line, Retry

CHUNK: Final = 1 << 18
_AHEAD: Final = (
    16  # chunks that may wait to be hashed; with CHUNK, what one download keeps in memory
)
_FLUSH: Final = 1 << 25  # bytes after which the kernel is asked to begin writing them out


def pump(
    answer: http.client.HTTPResponse, fd: int, offset: int, digest: hashlib._Hash, line: Line
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
    with _Hasher(digest) as hasher:
        pace = _Pace(line)
        begun = offset
        while chunk := _receive(answer):
            _write_all(fd, chunk, offset)
            hasher.feed(chunk)
            offset += len(chunk)
            if offset - begun >= _FLUSH:
                _begin_writing_out(fd, begun, offset - begun)
                begun = offset
            yield len(chunk)
            pace.check(len(chunk))


def _receive(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(CHUNK)
    except TimeoutError:
        raise Retry("the connection stalled") from None
    except (OSError, http.client.HTTPException) as error:
        raise Retry(f"the connection broke: {error}") from None


def _write_all(fd: int, chunk: bytes, offset: int) -> None:
    written = os.pwrite(fd, chunk, offset)
    while written < len(chunk):
        written += os.pwrite(fd, chunk[written:], offset + written)


def _begin_writing_out(fd: int, start: int, length: int) -> None:
    """Let the disk work while the network does, so that the final fsync has little left to do.

    Linux starts write-back of dirty pages on this advice, and only drops clean ones.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


class _Hasher:
    """A thread that hashes chunks in order; hashlib releases the interpreter while it works."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=_AHEAD)
        self._digest = digest
        self._thread = threading.Thread(target=self._work, daemon=True)

    def feed(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._digest.update(chunk)

    def __enter__(self) -> _Hasher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.put(None)
        self._thread.join()


class _Pace:
    """Notices a peer that trickles."""

    def __init__(self, line: Line) -> None:
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
