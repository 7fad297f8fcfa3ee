"""What addresses in the config may look like, and what they say. Pure.

One under `mirrors` or `a1111.sources` becomes a build argument, which the process list, the image's
history and its provenance show to everybody; a model's is written to the lock. So none holds a
password.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

_REGISTRY = re.compile(r"[^\s/@]+(/[^\s/@]+)*/*")


def mirror(url: str) -> str:
    """An http or https address as others are appended to it: without a slash at its end.

    Raises:
        ValueError: it is none, or holds a user or password.
    """
    if not re.match(r"https?://[^\s/]\S*$", url):
        raise ValueError("expected an address such as https://host/path")
    return without_credentials(url).rstrip("/")


def repository(place: str) -> str:
    """owner/name, or a whole URL.

    Raises:
        ValueError: the URL holds a password.
    """
    return without_credentials(place) if "://" in place else place


def registry(prefix: str) -> str:
    """What is put before an image's name, without a slash at its end.

    Raises:
        ValueError: it has a scheme or credentials, which no image's name has.
    """
    if not _REGISTRY.fullmatch(prefix):
        raise ValueError(
            "expected host, host:port or a path below it, without https://; "
            "credentials are Docker's own (docker login)"
        )
    return prefix.rstrip("/")


def without_credentials(url: str) -> str:
    """A URL that shows no secret; a user alone, as in ssh://git@host, is none.

    Raises:
        ValueError: it does; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - parsed when asked for
    except ValueError:
        raise ValueError("the address has a wrong host or port") from None
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise ValueError(
            "expected an address without user and password, which the image's history would show"
        )
    return url


def file_name(url: str) -> str:
    """The file name at the end of a URL; empty where there is only a number or a word."""
    last = PurePosixPath(unquote(urlsplit(url).path))
    return last.name if last.suffix else ""
