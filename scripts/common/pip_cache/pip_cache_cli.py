"""Show and prune pip's cache: `pip-cache stats | report | prune`.

`invoke cache.stats` and `invoke cache.prune` run it on the host, or in a container.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from scripts.common.pip_cache.entries import Entry, Stats, measure, scan
from scripts.common.pip_cache.prune import Pruned, prune
from scripts.common.units import parse_size, size

_DAY: Final = 86_400.0
_LARGEST: Final = 20


def main(arguments: Sequence[str], cache: Path) -> int:
    """Run the command.

    Args:
        arguments: of the command.
        cache: folder of the cache, unless `--path` names another.

    Raises:
        UserError: the cache cannot be used.
    """
    options = _parser(cache).parse_args(arguments)
    if options.command == "prune":
        age = None if options.older_than is None else options.older_than * _DAY
        done = prune(options.path, max_age=age, max_size=options.max_size, dry_run=options.dry_run)
        text = json.dumps(asdict(done), indent=2) if options.json else _summary(done, options)
    else:
        stats = measure(options.path)
        largest = _largest(options.path) if options.command == "report" else None
        text = _as_json(stats, largest) if options.json else _as_text(stats, largest)
    print(text)
    return 0


def _parser(cache: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pip-cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, meaning in (
        ("stats", "sizes, entries, hit rate, and what it saved"),
        ("report", f"the same, and the {_LARGEST} largest entries"),
        ("prune", "delete the least recently used entries"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("--path", type=Path, default=cache, help="folder of the cache")
        command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--older-than", type=_days, metavar="DAYS", help="unused for longer")
    command.add_argument("--max-size", type=_bytes, metavar="SIZE", help="may remain, such as 20G")
    command.add_argument("--dry-run", action="store_true", help="only count")
    return parser


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _days(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return float(text)


def _largest(cache: Path) -> list[dict[str, Any]]:
    """Return the largest entries, largest first, as a JSON report holds them."""
    now = time.time()
    entries: list[Entry] = sorted(scan(cache), key=lambda entry: entry.size, reverse=True)
    return [
        {
            "kind": entry.kind,
            "name": entry.name,
            "size": entry.size,
            "unused_days": max(now - entry.used, 0.0) / _DAY,
        }
        for entry in entries[:_LARGEST]
    ]


def _as_json(stats: Stats, largest: list[dict[str, Any]] | None) -> str:
    report = {**asdict(stats), **({} if largest is None else {"largest": largest})}
    return json.dumps(report, indent=2, default=str)


def _as_text(stats: Stats, largest: list[dict[str, Any]] | None) -> str:
    runs, total = stats.runs, sum(stats.sizes.values())
    rows: dict[str, str] = {
        "cache": str(stats.path),
        **{kind: f"{size(stats.sizes[kind])} in {stats.entries[kind]}" for kind in stats.sizes},
        "together": f"{size(total)} in {sum(stats.entries.values())}, "
        f"unused for up to {stats.oldest / _DAY:.1f} days",
        "volume": f"{size(stats.free)} free of {size(stats.total)}",
        "pip runs": f"{runs.runs}: {runs.hits} files from the cache, {runs.misses} downloaded",
        "hit rate": f"{runs.hit_rate:.0%}",
        "saved": f"{size(runs.saved_bytes)}, about {runs.saved_seconds:.0f} s",
    }
    lines = [f"{name:9} {value}" for name, value in rows.items()]
    for row in largest or ():
        unused = f"{row['unused_days']:5.1f} d"
        lines.append(f"  {size(row['size']):>8}  {row['kind']:6}  {unused}  {row['name']}")
    return "\n".join(lines)


def _summary(done: Pruned, options: argparse.Namespace) -> str:
    verb = "would delete" if options.dry_run else "deleted"
    kept = f"; kept {done.kept} wheels that a running pip may need" if done.kept else ""
    return f"{verb} {done.entries} entries, {size(done.size)}{kept}"
