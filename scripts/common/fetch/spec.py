"""Describe a file to download, how to download it, and the verified result. Light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args
from urllib.parse import urlsplit

State = Literal["fetched", "resumed", "cached", "verified", "waited"]

FINAL_STATES: Final = (*get_args(State), "failed", "damaged")
"""States after which a `ProgressCallback` is not called again."""


class ProgressCallback(Protocol):
    """Receive the progress of one file. Called often, so it must be quick.

    `state` is queued, connecting, fetching, verifying, waiting or retrying, and at last one of
    `FINAL_STATES`; `done` and `total` are bytes, `total` None where the server does not say;
    `detail` is a reason, for retrying.
    """

    def __call__(self, state: str, done: int, total: int | None, detail: str = "", /) -> None:
        """Receive one update."""


def no_progress(state: str, done: int, total: int | None, detail: str = "") -> None:
    """Ignore progress; a `ProgressCallback`."""


@dataclass(frozen=True)
class ArtifactSpec:
    """A file to download and its expected properties.

    Args:
        url: address of the file.
        name: its name at the source; the suffix decides which structure is checked.
        sha256: expected SHA-256; empty if unknown.
        size: expected size in bytes; None if unknown.
        git_blob: expected git blob ID, which the Hub gives for small files; empty if unknown.
        allow_pickle: accept a pickle, which can run code when it is loaded.
        token_variable: environment variable that may hold a bearer token for the URL's host.
        kind: kind of model, a `models.kinds.Kind`; empty to check only the structure.
        release: A1111 release that will load it, for example `v1.9.3`; empty if unknown.
    """

    url: str
    name: str
    sha256: str = ""
    size: int | None = None
    git_blob: str = ""
    allow_pickle: bool = False
    token_variable: str = ""
    kind: str = ""
    release: str = ""


@dataclass(frozen=True)
class VerifiedFile:
    """A file that was found to be what its `ArtifactSpec` expects.

    Args:
        path: where it is.
        sha256: its SHA-256.
        size: its size in bytes.
        state: how it came to be there.
        received: bytes transferred now.
        seconds: duration of the transfer or verification.
    """

    path: Path
    sha256: str
    size: int
    state: State
    received: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RetryPolicy:
    """Retry, timeout and certificate policy of downloads.

    Args:
        attempts: consecutive attempts without a new byte before the download fails.
        pause: seconds before the second attempt; doubled for each further one.
        max_pause: longest pause in seconds, the Hub's window; a server that asks for more fails
            the download.
        stall_timeout: seconds of silence, or of less than `min_rate`, that end a connection.
        min_rate: bytes per second.
        ca_bundle: PEM file trusted besides the system's; empty for the environment's only.
        public_only: refuse addresses that are not on the internet, also after a redirect; no
            proxy is used.
    """

    attempts: int = 6
    pause: float = 0.5
    max_pause: float = 300.0
    stall_timeout: float = 30.0
    min_rate: int = 1024
    ca_bundle: str = ""
    public_only: bool = False


def redact_url(url: str) -> str:
    """Return a URL without its query and user info, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
