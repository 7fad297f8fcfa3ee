"""Remembers that a file was verified, until the file changes.

A stamp lies beside its file and holds size, modification time, inode and SHA-256. No clock is
asked: a stamp fits the file it was written for or it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.files import write_atomically


def stamp_path(path: Path) -> Path:
    """Where the stamp of a file lies."""
    return path.with_name(f"{path.name}.stamp")


def _facts(stat: os.stat_result) -> dict[str, int]:
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


@dataclass(frozen=True)
class Stamp:
    """What a verification found.

    Args:
        sha256: of the bytes.
        form: of the structure, as `scripts.common.fetch.file_format` names it.
    """

    sha256: str
    form: str


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Note what `path` holds; silently nothing on a read-only store."""
    with contextlib.suppress(OSError):
        write_atomically(stamp_path(path), json.dumps({**asdict(stamp), **_facts(path.stat())}))


def read_stamp(path: Path) -> Stamp | None:
    """What is known of a file since it was verified; None where no stamp fits it any more."""
    try:
        noted = json.loads(stamp_path(path).read_text(encoding="utf-8"))
        facts = _facts(path.stat())
        fits = all(noted.get(key) == value for key, value in facts.items())
        return Stamp(str(noted["sha256"]), str(noted["form"])) if fits else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
