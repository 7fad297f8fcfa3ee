"""`pip-cache stats | report | prune`: what pip's cache on the volume holds, gives and costs.

`invoke cache.stats` and `invoke cache.prune` run the same words from outside the container.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from scripts.common.pip_cache.entries import Entry, scan
from scripts.common.pip_cache.prune import Pruned, Stats, measure, prune
from scripts.container.paths import pip_cache_in_use
from scripts.container.settings import Settings

_UNITS: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_DAY: Final = 86_400.0
_REPORTED: Final = 20


def main(settings: Settings, words: Sequence[str]) -> int:
    """Run one of the three.

    Args:
        settings: say where the cache lies.
        words: what follows the command.
    """
    cache = pip_cache_in_use(settings)
    _become_owner(cache)
    return run(words, cache)


def run(words: Sequence[str], cache: Path) -> int:
    """The same, for a cache anywhere.

    Raises:
        UserError: the cache cannot be used.
    """
    options = _parser(cache).parse_args(words)
    if options.word == "prune":
        age = None if options.older_than is None else options.older_than * _DAY
        done = prune(options.path, max_age=age, max_size=options.max_size, dry_run=options.dry_run)
        _show(asdict(done) if options.json else pruned_line(done, dry_run=options.dry_run))
        return 0
    stats = measure(options.path)
    entries = _largest(options.path) if options.word == "report" else []
    if options.json:
        rows = [_row(entry) for entry in entries]
        _show({**_plain(stats), **({"largest": rows} if options.word == "report" else {})})
    else:
        _show("\n".join([stats_lines(stats), *(_entry_line(entry) for entry in entries)]))
    return 0


def _become_owner(cache: Path) -> None:
    """Stop being root: files that root leaves in the cache would be in its owner's way."""
    if os.geteuid() == 0 and cache.exists():
        owner = cache.stat()
        with contextlib.suppress(PermissionError):  # root without the capability to change
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)


def stats_lines(stats: Stats) -> str:
    """A cache's state for a person."""
    runs = stats.runs
    size, entries = sum(stats.sizes.values()), sum(stats.entries.values())
    rows = [
        ("cache", str(stats.path)),
        *((kind, f"{_size(stats.sizes[kind])} in {stats.entries[kind]}") for kind in stats.sizes),
        (
            "together",
            f"{_size(size)} in {entries}, unused for up to {stats.oldest / _DAY:.1f} days",
        ),
        ("volume", f"{_size(stats.free)} free of {_size(stats.total)}"),
        ("pip runs", f"{runs.runs}: {runs.hits} files from the cache, {runs.misses} downloaded"),
        ("hit rate", f"{runs.hit_rate:.0%}"),
        ("saved", f"{_size(runs.saved_bytes)}, about {runs.saved_seconds:.0f} s"),
    ]
    return "\n".join(f"{name:9} {value}" for name, value in rows)


def pruned_line(done: Pruned, *, dry_run: bool) -> str:
    """What a prune did, in one line."""
    verb = "would delete" if dry_run else "deleted"
    kept = f"; kept {done.kept} wheels that a running pip may need" if done.kept else ""
    return f"{verb} {done.entries} entries, {_size(done.size)}{kept}"


def _parser(cache: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pip-cache", description=__doc__)
    words = parser.add_subparsers(dest="word", required=True)
    for word, told in (
        ("stats", "sizes, entries, hit rate, and what it saved"),
        ("report", f"the same, and the {_REPORTED} largest entries"),
        ("prune", "delete what was not used for longest"),
    ):
        command = words.add_parser(word, help=told)
        command.add_argument("--path", type=Path, default=cache, help="the cache's folder")
        command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument("--older-than", type=_days, metavar="DAYS", help="unused for longer")
    command.add_argument("--max-size", type=_bytes, metavar="SIZE", help="may remain, such as 20G")
    command.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 20G")
    return int(float(match[1]) * _UNITS[match[2]])


def _days(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return float(text)


def _largest(cache: Path) -> list[Entry]:
    return sorted(scan(cache), key=lambda entry: entry.size, reverse=True)[:_REPORTED]


def _row(entry: Entry) -> dict[str, object]:
    unused = max(time.time() - entry.used, 0.0)
    return {
        "kind": entry.kind,
        "name": entry.name,
        "size": entry.size,
        "unused_days": unused / _DAY,
    }


def _entry_line(entry: Entry) -> str:
    unused = max(time.time() - entry.used, 0.0) / _DAY
    return f"  {_size(entry.size):>8}  {entry.kind:6}  {unused:5.1f} d  {entry.name}"


def _plain(stats: Stats) -> dict[str, object]:
    return {
        **asdict(stats),
        "path": str(stats.path),
        "runs": {**asdict(stats.runs), "hit_rate": stats.runs.hit_rate},
    }


def _size(count: float) -> str:
    """Bytes for a person, decimal as volumes are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _show(what: str | dict[str, object]) -> None:
    print(what if isinstance(what, str) else json.dumps(what, indent=2))
