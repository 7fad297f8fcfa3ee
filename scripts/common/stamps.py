"""Remembers that a file was verified, until the file changes.

A stamp lies beside its file and holds size, modification time, inode and SHA-256. No clock is
asked: a stamp fits the file it was written for or it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path


def stamp_path(path: Path) -> Path:
    """Where the stamp of a file lies."""
    return path.with_name(f"{path.name}.stamp")


def _facts(stat: os.stat_result) -> dict[str, int]:
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def write_stamp(path: Path, sha256: str) -> None:
    """Note that `path` holds bytes of that SHA-256; silently nothing on a read-only store."""
    target = stamp_path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        partial.write_text(json.dumps({"sha256": sha256, **_facts(path.stat())}), encoding="utf-8")
        partial.replace(target)


def stamped_sha256(path: Path) -> str:
    """SHA-256 of a file as its stamp knows it; empty where there is no stamp that fits."""
    try:
        stamp = json.loads(stamp_path(path).read_text(encoding="utf-8"))
        facts = _facts(path.stat())
        fits = all(stamp.get(key) == value for key, value in facts.items())
        return str(stamp["sha256"]) if fits else ""
    except (OSError, ValueError, KeyError, AttributeError):
        return ""
