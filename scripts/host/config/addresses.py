"""Validate the addresses of the config.

Mirrors and source repositories become build arguments, which the process list, the image's history
and its provenance show to everybody; a model's address is written to the lock. None may hold a
password.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from scripts.host.config.grammar import REGISTRY

GITHUB: Final = "https://github.com"
SITES: Final[Mapping[str, str]] = {
    "github": GITHUB,
    "googleapis": "https://storage.googleapis.com",
    "openaipublic": "https://openaipublic.azureedge.net",
    "heibox": "https://heibox.uni-heidelberg.de",
}
"""Sites of the files of features, the Hub apart, by the key of `mirrors` that replaces each."""

_REPOSITORY: Final = re.compile(
    r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_.][\w.-]*|(https?|ssh|file)://[^\s]+", re.ASCII
)
_PAGE: Final = re.compile(rf"{GITHUB}/([^/]+/[^/]+)/(tree|blob|commit|releases)(/.*)?")
_SCP: Final = re.compile(r"([\w.-]+@[\w.-]+):(?!//)/?(\S+)")  # git@github.com:owner/name.git


def check_mirror(url: str) -> str:
    """Return an http or https address without a trailing slash, so that paths can be appended.

    Raises:
        ValueError: it is not one, or holds a user or password.
    """
    if not re.match(r"https?://[^\s/?#]+(/[^\s?#]*)?$", url):
        raise ValueError("expected an address such as https://host/path")
    return check_credentials(url).rstrip("/")


def check_registry(prefix: str) -> str:
    """Return the prefix of an image's name without a trailing slash.

    Raises:
        ValueError: it has a scheme or credentials, which no image's name has.
    """
    return REGISTRY.check(prefix).rstrip("/")


def check_repository(repo: str) -> str:
    """Return owner/name below mirrors.github, or the address of a git repository.

    Raises:
        ValueError: it is neither, such as the address of a page; or holds a password.
    """
    if page := _PAGE.fullmatch(repo):
        raise ValueError(f"this is the address of a page; expected {page[1]}")
    if scp := _SCP.fullmatch(repo):
        raise ValueError(f"expected an address: ssh://{scp[1]}/{scp[2]}")
    if not _REPOSITORY.fullmatch(repo):
        raise ValueError("expected owner/name, or an address: https://, http://, ssh:// or file://")
    return check_credentials(repo)


def check_credentials(url: str) -> str:
    """Return a URL, or owner/name, without a secret; a user alone, as in ssh://git@host, is none.

    Raises:
        ValueError: it holds one; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError for a wrong port
    except ValueError:
        raise ValueError("the address has a wrong host or port") from None
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise ValueError(
            "expected an address without user and password, which the image's history would show"
        )
    return url


def apply_mirror(url: str, github: str) -> str:
    """Return the address of what lies below github.com on the mirror of it; any other unchanged."""
    below = url.removeprefix(f"{GITHUB}/")
    return url if below == url else f"{github}/{below}"


def find_site(url: str) -> str:
    """Return the key of the site that a URL belongs to; empty for any other."""
    return next((key for key, site in SITES.items() if url.startswith(f"{site}/")), "")


def file_name(url: str) -> str:
    """Return the file name at the end of a URL; empty without a suffix."""
    path = PurePosixPath(unquote(urlsplit(url).path))
    return path.name if path.suffix else ""
