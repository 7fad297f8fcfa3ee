"""Verify a file that is already there: by the stamp of an earlier verification, or by its bytes.

A stamp lies beside its file and holds size, modification time, inode and SHA-256. No clock is
used: a stamp matches the file it was written for, or it does not.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import check_structure, is_acceptable
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.fetch.spec import ArtifactSpec, ProgressCallback, VerifiedFile, no_progress
from scripts.common.files import write_atomically


def stamp_path(path: Path) -> Path:
    """Return the path of a file's stamp."""
    return path.with_name(f"{path.name}.stamp")


def write_stamp(path: Path, sha256: str, form: str, kind: str) -> None:
    """Record a verification of `path`; do nothing on a read-only store.

    Args:
        path: the file.
        sha256: its SHA-256.
        form: its form, as `check_structure` returned it.
        kind: kind of model that it was checked for; empty if only its structure was.
    """
    with suppress(OSError):
        stamp = {"sha256": sha256, "form": form, "kind": kind, **_identity(path)}
        write_atomically(stamp_path(path), json.dumps(stamp))


def _identity(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _read_stamp(path: Path) -> tuple[int, str, str, str] | None:
    """Return size, SHA-256, form and kind; None without a stamp, or if the file changed since."""
    try:
        stamp = json.loads(stamp_path(path).read_text(encoding="utf-8"))
        found = stamp["size"], str(stamp["sha256"]), str(stamp["form"]), str(stamp.get("kind", ""))
        return found if stamp.items() >= _identity(path).items() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check_spec(path: Path, name: str, spec: ArtifactSpec) -> str:
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
    if not (stamp := _read_stamp(path)):
        return None
    size, sha256, form, kind = stamp
    matches = (
        spec.sha256 in ("", sha256)
        and spec.size in (None, size)
        and spec.kind == kind
        and is_acceptable(
            form, spec.name, kind=kind, allow_pickle=spec.allow_pickle, release=spec.release
        )
    )
    seconds = time.monotonic() - started
    return VerifiedFile(path, sha256, size, "cached", 0, seconds) if matches else None


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
    if not rehash and (stamp := _read_stamp(path)):
        digest = stamp[1]  # for another kind: only the structure is checked again
    else:
        digest = sha256_of(path, lambda done: on_progress("verifying", done, size))
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
    write_stamp(path, digest, form, spec.kind)
    return VerifiedFile(path, digest, size, "verified", 0, time.monotonic() - started)
