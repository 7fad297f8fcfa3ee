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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.files import write_atomically
from scripts.host.console import say, terminal_width
from scripts.host.models.models_display import file_facts, prefetch_table

if TYPE_CHECKING:
    from scripts.common.fetch.spec import VerifiedFile
    from scripts.host.models.artifacts import Artifact
    from scripts.host.models.store import Store

ROOT = Path(__file__).resolve().parents[3]
_PATH = ROOT / "reports" / "models.json"


def key_of(variant: str, define: Sequence[str], names: Sequence[str]) -> str:
    """Return a key of the config's files, the task's arguments, and the code that reads them."""
    layers = ["config.yaml", "config.local.yaml", "config.lock.yaml"]
    named = os.environ.get("IMAGE_CONFIG")
    digest, expand = hashlib.sha256(), os.path.expandvars
    files = [*(ROOT / layer for layer in layers), *([Path(expand(named))] if named else [])]
    for path in files:  # with the values of the variables that paths may name
        digest.update(expand(path.read_bytes()) if path.exists() else b"\0")
    packages = ("common", "common/fetch", "common/models", "host", "host/config", "host/models")
    code = [path for package in packages for path in ROOT.glob(f"scripts/{package}/*.py")]
    stats = [(str(path), path.stat().st_mtime_ns) for path in sorted(code)]
    folders = [expand(os.environ.get("MODELS_STORE", "")), os.path.expanduser("~")]  # noqa: PTH111 - never fails
    given = [variant, list(define), list(names), folders, named, stats]
    digest.update(json.dumps(given).encode())
    return digest.hexdigest()


def replay(key: str, *, as_json: bool) -> bool:
    """Print the result of the prefetch of that key, if every file is still as it was.

    Returns:
        False if there is no valid receipt; then nothing is printed.
    """
    try:
        receipt = json.loads(_PATH.read_text(encoding="utf-8"))
        identity = _identify(path for path, *_ in receipt["files"])
        if receipt["key"] != key or receipt["files"] != identity:
            return False
        facts, text = receipt["facts"], receipt["table"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if as_json:
        events = [*({"event": "ready", "seconds": 0.0, **each} for each in facts)]
        text = "\n".join(map(json.dumps, [*events, {"event": "done", "seconds": 0.0}]))
    elif 0 < terminal_width() < max(map(len, text.splitlines())):
        text = prefetch_table(facts, terminal_width())
    say(text)
    return True


def write(key: str, files: Mapping[Artifact, VerifiedFile], store: Store) -> None:
    """Write the receipt of a prefetch; not for unpinned files, nor in a read-only checkout."""
    if not all(artifact.is_pinned or artifact.origin for artifact in files):
        return
    paths = [file.path for file in files.values()]
    paths += [store.name_path(each.model.name, each.file) for each in files]
    facts = [
        file_facts(artifact, replace(file, state="cached", received=0, seconds=0.0))
        for artifact, file in files.items()
    ]
    with suppress(OSError):
        receipt = {"key": key, "files": _identify(map(str, paths)), "facts": facts}
        write_atomically(_PATH, json.dumps({**receipt, "table": prefetch_table(facts)}))


def _identify(paths: Iterable[str]) -> list[list[str | int]]:
    """Return path, size, modification time and inode of each file."""
    stats = ((path, Path(path).stat()) for path in paths)
    return [[path, stat.st_size, stat.st_mtime_ns, stat.st_ino] for path, stat in stats]
