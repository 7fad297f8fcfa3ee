"""Keeps the README's tables true: written from the schema, the findings and what was measured.

A block lies between `<!-- NAME -->` and `<!-- /NAME -->`; a test holds every block to what the code
says now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.common.diagnostics.table import diagnostics
from scripts.container.settings import VARIABLES
from scripts.host.config.load import ROOT
from scripts.host.config.schema import Config

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


def config_reference() -> str:
    """Every config key with its meaning, as a Markdown table."""
    rows = [f"| `{key}` | {text} |" for key, text in _keys(Config.model_json_schema(), "")]
    return "\n".join(["| key | meaning |", "|---|---|", *rows])


def _keys(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Leaf keys below a section of the schema, in the order of the code."""
    definitions = schema.get("$defs", {})

    def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        for name, child in node.get("properties", {}).items():
            inner, suffix = _section(child, definitions)
            here = f"{path}{name}{suffix}"
            if inner is None or not inner.get("properties"):
                yield here, child.get("description", "").replace("|", "\\|")
            else:
                yield from walk(inner, f"{here}.")

    return walk(schema, prefix)


def _section(
    child: dict[str, Any], definitions: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """The section a key holds, and how its path goes on: nothing, `[]` or `.<name>`."""
    for suffix, node in (
        ("", child),
        ("[]", child.get("items", {})),
        (".<name>", child.get("additionalProperties", {})),
    ):
        reference = node.get("$ref") if isinstance(node, dict) else None
        if reference:
            return definitions[reference.rpartition("/")[2]], suffix
    return None, ""


def troubleshooting() -> str:
    """Every known failure with its hint, as a Markdown table."""
    rows = [
        f"| `{row.code}` | {row.message} | {row.hint} |".replace("\n", " ")
        for row in diagnostics().values()
    ]
    return "\n".join(["| code | what is wrong | what to do |", "|---|---|---|", *rows])


def worker_variables() -> str:
    """Every environment variable of the container, as a Markdown table."""
    rows = [
        f"| `{name}` | {f'`{row.default}`' if row.default else ''} | {row.meaning} |"
        for name, row in VARIABLES.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def benchmarks() -> str:
    """Every benchmark's promises as last measured, from what `nox -s bench` has written."""
    parts = []
    for path in sorted(RESULTS.glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            f"| {row['what']} | {row['value']:.3g} | {'≤' if row['is_most'] else '≥'} "
            f"{row['limit']:g} | {'yes' if row['holds'] else '**no**'} |"
            for row in facts["ratios"]
        ]
        head = f"`nox -s bench -- {path.stem}` on {_machine(facts['machine'])}:"
        table = ["| what | measured | must be | holds |", "|---|--:|--:|---|", *rows]
        parts.append("\n".join([head, "", *table]))
    return "\n\n".join(parts)


def _machine(facts: dict[str, Any]) -> str:
    """What a benchmark ran on, in one line."""
    engine = f", Docker {facts['engine']}" if facts["engine"] else ""
    memory = f"{facts['memory'] / 2**30:.0f} GiB"
    system = f"Linux {facts['kernel']}, Python {facts['python']}"
    return f"{facts['cores']} cores of {facts['cpu']}, {memory}, {system}{engine}"


BLOCKS: dict[str, Callable[[], str]] = {
    "config-reference": config_reference,
    "worker-variables": worker_variables,
    "troubleshooting": troubleshooting,
    "benchmarks": benchmarks,
}


def updated(text: str) -> str:
    """The README's text with every block as the code says it."""
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        body = make()
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}{match[2]}", text)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    return text


def rewrite(path: Path = README) -> Path:
    """Bring the README's blocks up to date."""
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path
