"""Verify a file that is already there: by the stamp of an earlier verification, or by its bytes.

A stamp lies beside its file and holds size, modification time, inode and SHA-256. No clock is
used: a stamp matches the file it was written for, or it does not.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import Form, check_structure, is_acceptable
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.fetch.spec import ArtifactSpec, ProgressCallback, VerifiedFile, no_progress
from scripts.common.files import write_atomically


@dataclass(frozen=True)
class Stamp:
    """Result of a verification.

    Args:
        sha256: SHA-256 of the file.
        form: its structure, a `file_format.Form`.
        kind: kind of model that it was checked for; empty if only its structure was.
    """

    sha256: str
    form: str
    kind: str = ""


def stamp_path(path: Path) -> Path:
    """Return the path of a file's stamp."""
    return path.with_name(f"{path.name}.stamp")


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Record a verification of `path`; do nothing on a read-only store."""
    with suppress(OSError):
        write_atomically(stamp_path(path), json.dumps({**asdict(stamp), **_identity(path)}))


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file; None if there is none or the file changed since."""
    try:
        stored = json.loads(stamp_path(path).read_text(encoding="utf-8"))
        matches = all(stored.get(key) == value for key, value in _identity(path).items())
        stamp = Stamp(str(stored["sha256"]), str(stored["form"]), str(stored.get("kind", "")))
        return stamp if matches else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _identity(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def check_spec(path: Path, name: str, spec: ArtifactSpec) -> Form:
    """Check a file's structure as `check_structure` does, for what is expected of it.

    Args:
        path: the file.
        name: its name, from `spec` or from the server.
        spec: its expected properties.
    """
    return check_structure(
        path, name, kind=spec.kind, allow_pickle=spec.allow_pickle, release=spec.release
    )


def find_verified(spec: ArtifactSpec, path: Path) -> VerifiedFile | None:
    """Return a file that its stamp shows to match; None if the stamp does not. Read no file."""
    started = time.monotonic()
    stamp = read_stamp(path)
    if stamp is None:
        return None
    size = path.stat().st_size
    matches = (
        spec.sha256 in ("", stamp.sha256)
        and spec.size in (None, size)
        and stamp.kind == spec.kind
        and is_acceptable(
            stamp.form,
            spec.name,
            kind=spec.kind,
            allow_pickle=spec.allow_pickle,
            release=spec.release,
        )
    )
    seconds = time.monotonic() - started
    return VerifiedFile(path, stamp.sha256, size, "cached", 0, seconds) if matches else None


def verify_file(
    spec: ArtifactSpec,
    path: Path,
    *,
    rehash: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> VerifiedFile:
    """Verify an existing file by its stamp; without a valid one, read it and stamp it.

    Args:
        spec: its expected properties.
        path: the file.
        rehash: read it in any case.
        on_progress: called with the bytes read.

    Raises:
        UserError: the file does not match (code `model-damaged`), or its structure is wrong.
    """
    if not rehash and (found := find_verified(spec, path)):
        return found
    started, size = time.monotonic(), path.stat().st_size
    stamp = None if rehash else read_stamp(path)
    # A stamp for another kind still proves the bytes: only the structure is checked again.
    digest = (
        stamp.sha256
        if stamp
        else sha256_of(path, lambda done: on_progress("verifying", done, size))
    )
    if spec.sha256 not in ("", digest):
        raise UserError(
            f"the file has changed: sha256 {digest[:16]}…, expected {spec.sha256[:16]}…",
            location=str(path),
            hint="remove it and fetch it again",
            code="model-damaged",
        )
    form = check_spec(path, spec.name, spec)
    with suppress(OSError):  # another user's file, or a read-only store
        path.chmod(0o644)
        os.utime(path, (layer_time(digest),) * 2)
    write_stamp(path, Stamp(digest, form, spec.kind))
    return VerifiedFile(path, digest, size, "verified", 0, time.monotonic() - started)
