"""Show which models were found: `python -m scripts.container models [--json] [--link] [--check]`.

It searches anew, so it also shows what lies on the volume since the worker has started; `--link`
links that too, after which the WebUI's routes `refresh-checkpoints`, `refresh-loras` and so on see
it. `--check` reads the files, too, as far as it takes to tell that they are what their places say.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from scripts.common.models.model_search import measure_files
from scripts.common.units import size
from scripts.container import privileges
from scripts.container.settings import Settings
from scripts.container.webui.model_check import check_models
from scripts.container.webui.model_links import prepare_models, read_own_links
from scripts.container.webui.model_tree import ModelEntry, ModelTree, build_model_tree

_CHECK_TIMEOUT: Final = 3600.0  # seconds


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Print all models; exit code 1 when something could not be read, linked or used.

    Args:
        settings: of the worker.
        arguments: of the command.

    Raises:
        UserError: as for `build_model_tree`.
    """
    parser = argparse.ArgumentParser(prog="models", description="Show the models of this worker.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--link", action="store_true", help="link what was found meanwhile")
    parser.add_argument("--check", action="store_true", help="read the files of the volume, too")
    options = parser.parse_args(arguments)

    if options.link:
        privileges.become_owner(settings.data_dir)
        tree = prepare_models(settings)
    else:
        tree = build_model_tree(settings, read_own_links(settings.data_dir))
    if options.check:
        damaged = check_models(settings, tree.entries, _CHECK_TIMEOUT)
        tree = replace(tree, problems=(*tree.problems, *damaged))
    if options.json:
        print(json.dumps(tree.to_json(), indent=2))
    else:
        print(format_tree(tree, settings.data_dir))
    return 1 if tree.problems else 0


def format_tree(tree: ModelTree, data_dir: Path) -> str:
    """Return a table of all models, and what could not be read below it."""
    rows = [["kind", "name", "size", "rule", "path", ""]]
    sizes = measure_files(Path(entry.path) for entry in tree.entries)
    rows += [_row(entry, sizes, tree.checkpoint, data_dir) for entry in tree.entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    problems = [f"problem: {problem.path}: {problem.reason}" for problem in tree.problems]
    return "\n".join(line.rstrip() for line in (*lines, *problems))


def _row(
    entry: ModelEntry, sizes: Mapping[Path, int], checkpoint: Path, data_dir: Path
) -> list[str]:
    length = sizes.get(Path(entry.path))
    kind = f"{entry.kind} {entry.family}".rstrip()
    note = ""
    if entry.shadowed_by:
        note = f"shadowed by {entry.shadowed_by}"
    elif checkpoint in (Path(entry.path), data_dir / (entry.place or ".")):
        note = "loaded at start"
    shown = "?" if length is None else size(length)
    return [kind, entry.name, shown, entry.rule, entry.path, note]
