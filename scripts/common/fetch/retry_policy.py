"""What is expected of a connection, and how its address is shown; light to import."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RetryPolicy:
    """How much is expected of a connection before it is given up.

    Args:
        attempts: tries in a row that bring no new byte.
        pause: seconds before the second try; doubled for each further one.
        longest_pause: seconds that no pause exceeds, whatever the server asks for.
        stall: seconds without `slowest` bytes a second after which a peer counts as stalled.
        slowest: bytes a second.
        ca_bundle: PEM file trusted besides the system's; empty for what the environment says.
    """

    attempts: int = 6
    pause: float = 0.5
    longest_pause: float = 120.0
    stall: float = 30.0
    slowest: int = 1024
    ca_bundle: str = ""


def shown(url: str) -> str:
    """A URL without its query and user info, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
