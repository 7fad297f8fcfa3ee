"""What a model file must be, and whether a file that is there is that."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import check_structure, is_acceptable
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.fetch.stamps import Stamp, read_stamp, write_stamp

State = Literal["fetched", "resumed", "cached", "verified", "waited"]

ENDED: Final = (*get_args(State), "failed", "damaged")
"""States after which a `ProgressCallback` is told nothing more."""


class ProgressCallback(Protocol):
    """Told what is going on, often; must be quick.

    `state` is queued, connecting, fetching, verifying, waiting or retrying, and at last one of
    `ENDED`; `done` and `total` are bytes, `total` None where the server does not say; `detail` is
    a reason, for retrying.
    """

    def __call__(self, state: str, done: int, total: int | None, detail: str = "", /) -> None:
        """Take note."""


@dataclass(frozen=True)
class ArtifactSpec:
    """A file and what it must be.

    Args:
        url: where it is.
        name: its name at the source; the suffix decides which structure is checked.
        sha256: what it must have; empty where nobody knows yet.
        size: bytes it must have; None where nobody knows yet.
        git_blob: git's id of it, where the Hub gives that instead of a SHA-256.
        allow_pickle: whether a pickle is accepted.
    """

    url: str
    name: str
    sha256: str = ""
    size: int | None = None
    git_blob: str = ""
    allow_pickle: bool = False


@dataclass(frozen=True)
class VerifiedFile:
    """A verified file.

    Args:
        path: where it lies.
        sha256: what it has.
        size: bytes.
        state: how it came to be there.
        moved: bytes that came over the network now.
        seconds: how long that took.
    """

    path: Path
    sha256: str
    size: int
    state: State
    moved: int = 0
    seconds: float = 0.0


def silent(state: str, done: int, total: int | None, detail: str = "") -> None:
    """A `ProgressCallback` that looks away."""


def existing(
    wanted: ArtifactSpec, dest: Path, *, rehash: bool = False, watch: ProgressCallback = silent
) -> VerifiedFile:
    """Verify a file that is there already, by its stamp or else by its bytes.

    Args:
        wanted: the file.
        dest: where it lies.
        rehash: whether to distrust the stamp.
        watch: told what is going on.

    Raises:
        UserError: its bytes are not what they must be (code `model-damaged`).
    """
    started, size = time.monotonic(), dest.stat().st_size
    stamp = None if rehash else read_stamp(dest)
    if stamp and fits(wanted, stamp, size):
        return VerifiedFile(dest, stamp.sha256, size, "cached", 0, time.monotonic() - started)
    digest = sha256_of(dest, lambda done: watch("verifying", done, size))
    if wanted.sha256 not in ("", digest):
        raise UserError(
            f"the file has changed: sha256 {digest[:16]}…, expected {wanted.sha256[:16]}…",
            location=str(dest),
            hint="remove it and fetch it again",
            code="model-damaged",
        )
    form = check_structure(dest, wanted.name, allow_pickle=wanted.allow_pickle)
    with suppress(OSError):  # somebody else's file, or a read-only store: as good without
        dest.chmod(0o644)
        os.utime(dest, (layer_time(digest),) * 2)
    write_stamp(dest, Stamp(digest, form))
    return VerifiedFile(dest, digest, size, "verified", 0, time.monotonic() - started)


def fits(wanted: ArtifactSpec, stamp: Stamp, size: int) -> bool:
    """Whether a file of that stamp and size in bytes is what is wanted; nothing is read."""
    return (
        wanted.sha256 in ("", stamp.sha256)
        and wanted.size in (None, size)
        and is_acceptable(stamp.form, wanted.name, allow_pickle=wanted.allow_pickle)
    )
