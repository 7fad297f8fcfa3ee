"""The project's own lint: every variant loads, the lock reads, the editor's schema is current."""

from __future__ import annotations

from pathlib import Path

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.host.config.describe import SCHEMA_NAME, schema_text, write_schema
from scripts.host.config.load import DEFAULT_VARIANT, load
from scripts.host.lint.parse import at
from scripts.host.lint.problems import Problem


def check_config(root: Path) -> list[Problem]:
    """What is wrong with `config.yaml` and `config.lock.yaml`, one problem a distinct failure."""
    found = {}
    for variant in _variants(root):
        try:
            load(variant, root=root)
        except UserError as failure:
            found[str(failure)] = at(failure, "config.yaml", "config")
    return list(found.values())


def check_schema(root: Path) -> list[Problem]:
    """Whether `config.schema.json` is what the code would write."""
    path = root / SCHEMA_NAME
    if path.is_file() and path.read_text(encoding="utf-8") == schema_text():
        return []
    message = "is not what the code says - run: invoke config --schema"
    return [Problem(SCHEMA_NAME, 1, 1, "schema-stale", message)]


def fix_schema(root: Path) -> None:
    """Write the schema the code says."""
    write_schema(root)


def _variants(root: Path) -> list[str]:
    """Names of the variants; the default's where the file cannot say, so that loading will."""
    try:
        tree = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
        return list(tree["variants"]) or [DEFAULT_VARIANT]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return [DEFAULT_VARIANT]
