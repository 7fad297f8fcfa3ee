"""Remember a finished prefetch, so that the next one with nothing to do is over at once.

Reading and checking the config takes longer than looking at the store. The receipt holds what the
prefetch depended on and the identity of every file it found: while all of that is the same, so is
the result. Only pinned files get one. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.files import write_atomically
from scripts.host.models.model_tables import file_facts, prefetch_row, prefetch_table

if TYPE_CHECKING:
    from scripts.common.fetch.spec import VerifiedFile
    from scripts.host.models.artifacts import Artifact
    from scripts.host.models.store import Store

ROOT = Path(__file__).resolve().parents[3]
_PATH = ROOT / "reports" / "models.json"


@dataclass(frozen=True)
class Receipt:
    """A prefetch that found everything verified.

    Args:
        key: what it depended on, from `key_of`.
        files: path, size, modification time and inode of every file and name.
        rows: rows of the table for people.
        table: the same, as it is printed elsewhere than on a terminal.
        events: JSON events for machines.
    """

    key: str
    files: tuple[tuple[str, int, int, int], ...]
    rows: tuple[tuple[str, ...], ...]
    table: str
    events: tuple[str, ...]


def key_of(variant: str, define: Sequence[str], names: Sequence[str]) -> str:
    """Return a key of the config's files, the task's arguments, and the code that reads them."""
    layers = ["config.yaml", "config.local.yaml", "config.lock.yaml"]
    named = os.environ.get("IMAGE_CONFIG")
    digest = hashlib.sha256()
    for path in [*(ROOT / layer for layer in layers), *([Path(named)] if named else [])]:
        digest.update(path.read_bytes() if path.exists() else b"\0")
    packages = (
        "common",
        "common/fetch",
        "common/diagnostics",
        "common/models",
        "host",
        "host/config",
        "host/models",
    )
    code = [path for package in packages for path in ROOT.glob(f"scripts/{package}/*.py")]
    stats = [(str(path), path.stat().st_mtime_ns) for path in sorted(code)]
    given = [variant, list(define), list(names), os.environ.get("MODELS_STORE"), named, stats]
    digest.update(json.dumps(given).encode())
    return digest.hexdigest()


def read(key: str) -> Receipt | None:
    """Return the receipt of that key, if every file is still as it was; read no model file."""
    try:
        stored = json.loads(_PATH.read_text(encoding="utf-8"))
        receipt = Receipt(
            stored["key"],
            tuple((path, size, mtime, inode) for path, size, mtime, inode in stored["files"]),
            tuple(map(tuple, stored["rows"])),
            stored["table"],
            tuple(stored["events"]),
        )
        is_valid = receipt.key == key and receipt.files == _identify(f[0] for f in receipt.files)
        return receipt if is_valid else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(key: str, files: Mapping[Artifact, VerifiedFile], store: Store) -> None:
    """Write the receipt of a prefetch; not for unpinned files, nor in a read-only checkout."""
    if not all(artifact.is_pinned or artifact.origin for artifact in files):
        return
    paths = [file.path for file in files.values()]
    paths += [store.name_path(each.model.name, each.file) for each in files]
    cached = {
        artifact: replace(file, state="cached", received=0, seconds=0.0)
        for artifact, file in files.items()
    }
    events = [{"event": "ready", "seconds": 0.0, **file_facts(*each)} for each in cached.items()]
    rows = tuple(prefetch_row(*each) for each in cached.items())
    with suppress(OSError):
        receipt = Receipt(
            key,
            _identify(map(str, paths)),
            rows,
            prefetch_table(rows, 0),
            tuple(json.dumps(event) for event in [*events, {"event": "done", "seconds": 0.0}]),
        )
        write_atomically(_PATH, json.dumps(asdict(receipt)))


def _identify(paths: Iterable[str]) -> tuple[tuple[str, int, int, int], ...]:
    rows = [(path, Path(path).stat()) for path in paths]
    return tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in rows)
