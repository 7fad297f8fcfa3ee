"""Answers `file:` URLs the way a server would, so that local files take the same way as others."""

from __future__ import annotations

from email.message import Message
from io import BufferedReader
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from scripts.common.diagnostics.error import UserError


class Answer(Protocol):
    """What a download reads of an `http.client.HTTPResponse`."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Message:
        """The headers."""

    @property
    def chunked(self) -> bool:
        """Whether the body is chunked; then `read1` undoes it."""

    @property
    def length(self) -> int | None:
        """Bytes of a body that is not chunked; None until the connection ends."""

    @property
    def fp(self) -> BufferedReader:
        """The raw body."""

    def read1(self, n: int) -> bytes:
        """Some of the body."""

    def close(self) -> None:
        """End the connection."""


class LocalFile:
    """A local file as an answer.

    Args:
        url: a `file:` URL.

    Raises:
        UserError: it cannot be read.
    """

    status, chunked = 200, False

    def __init__(self, url: str) -> None:
        path = Path(unquote(urlsplit(url).path))
        try:
            self.fp = path.open("rb")
            self.length: int | None = path.stat().st_size
        except OSError as error:
            raise UserError(
                f"the file cannot be read: {error.strerror}",
                location=str(path),
                hint="check the source's address",
                code="download-refused",
            ) from None
        self.headers = Message()
        self.headers["Content-Length"] = str(self.length)

    def read1(self, n: int) -> bytes:
        """Some of the file."""
        return self.fp.read1(n)

    def close(self) -> None:
        """Close it."""
        self.fp.close()
