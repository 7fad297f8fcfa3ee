"""Every package that code on the builder's machine imports is declared in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import nox
import pytest

from scripts.host.config.load import ROOT

GROUPS: dict[str, list[Any]] = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
OURS = {"scripts", "tests", "benchmarks", "noxfile", "tasks", "_typeshed"}
IN_IMAGES = {"runpod", "torch", "xformers"}
FOR_IMAGES = {"a1111", "extensions"}
"""Folders of the tests' support with programs for the image's packages."""


def declared(group: str) -> set[str]:
    """Return the normalised names of a group's packages, included groups resolved (PEP 735)."""
    names: set[str] = set()
    for entry in GROUPS[group]:
        if isinstance(entry, dict):
            names |= declared(entry["include-group"])
        else:
            names.add(normalised(re.split(r"[\[<>=;~! ]", entry)[0]))
    return names


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*places: str) -> Iterator[str]:
    """Yield the top-level modules of other projects that some folders or files import."""
    for place in places:
        path = ROOT / place
        for source in [path] if path.is_file() else path.rglob("*.py"):
            inner = source.relative_to(ROOT)
            if not (inner.is_relative_to("tests/support") and FOR_IMAGES & {*inner.parts}):
                yield from _imports(source)


def _imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        yield from (name.partition(".")[0] for name in names)


@pytest.mark.parametrize(
    ("group", "places"),
    [
        ("host", ("scripts/host", "scripts/tasks", "scripts/common", "scripts/reference")),
        ("host", ("tasks.py", "noxfile.py")),
        ("test", ("tests",)),
        ("bench", ("benchmarks",)),
    ],
)
def test_every_import_is_declared(group: str, places: tuple[str, ...]) -> None:
    modules = {*imported(*places)} - OURS - IN_IMAGES - sys.stdlib_module_names
    providers = packages_distributions()
    missing = {
        module
        for module in modules
        if not {normalised(name) for name in providers[module]} & declared(group)
    }
    assert missing == set()
