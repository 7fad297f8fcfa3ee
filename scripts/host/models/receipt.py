"""Remembers a finished prefetch, so that the next one with nothing to do is over at once.

Reading and checking the config takes longer than looking at the store. The receipt holds what the
prefetch depended on and the stamps of every file it found: while all of that is the same, so is
the result. Only pinned files get one; standard library only, so that nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.files import write_atomically

ROOT = Path(__file__).resolve().parents[3]
_PATH = ROOT / "reports" / "models.json"


@dataclass(frozen=True)
class Receipt:
    """A prefetch that found everything verified.

    Args:
        key: of what it depended on, from `key_of`.
        files: path, size, modification time and inode of every file and name.
        rows: the result for people, as the table's cells.
        events: the result for machines, one JSON text each.
    """

    key: str
    files: tuple[tuple[str, int, int, int], ...]
    rows: tuple[tuple[str, ...], ...]
    events: tuple[str, ...]


def key_of(variant: str, define: Sequence[str], names: Sequence[str]) -> str:
    """A key for the config's files, the words of the task, and the code that reads them."""
    layers = ["config.yaml", "config.local.yaml", "config.lock.yaml"]
    named = os.environ.get("IMAGE_CONFIG")
    digest = hashlib.sha256()
    for path in [*(ROOT / layer for layer in layers), *([Path(named)] if named else [])]:
        digest.update(path.read_bytes() if path.exists() else b"\0")
    rooms = ("common", "host/config", "host/models")
    code = [path for room in rooms for path in ROOT.glob(f"scripts/{room}/*.py")]
    stats = [(str(path), path.stat().st_mtime_ns) for path in sorted(code)]
    words = [variant, list(define), list(names), os.environ.get("MODELS_STORE"), named, stats]
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def read(key: str) -> Receipt | None:
    """The receipt of that key, if every file is still as it was; no file of the store is read."""
    try:
        noted = json.loads(_PATH.read_text(encoding="utf-8"))
        receipt = Receipt(
            noted["key"],
            tuple((path, size, mtime, inode) for path, size, mtime, inode in noted["files"]),
            tuple(map(tuple, noted["rows"])),
            tuple(noted["events"]),
        )
        fits = receipt.key == key and receipt.files == _facts(row[0] for row in receipt.files)
        return receipt if fits else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(
    key: str, files: Iterable[Path], rows: Iterable[tuple[str, ...]], events: Iterable[str]
) -> None:
    """Keep a receipt; a checkout that cannot be written to just goes without."""
    with suppress(OSError):
        receipt = Receipt(key, _facts(map(str, files)), tuple(rows), tuple(events))
        write_atomically(_PATH, json.dumps(asdict(receipt)))


def _facts(paths: Iterable[str]) -> tuple[tuple[str, int, int, int], ...]:
    rows = [(path, Path(path).stat()) for path in paths]
    return tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in rows)
