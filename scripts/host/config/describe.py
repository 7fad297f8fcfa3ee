"""Shows the merged config with the origin of each value, and makes the JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.host.config.load import ROOT, LoadedConfig
from scripts.host.config.schema import Config
from scripts.host.console import table

SCHEMA_NAME = "config.schema.json"


def rendered(loaded: LoadedConfig) -> str:
    """One aligned line a value: key path, origin, value as JSON, which may be long."""
    tree = loaded.config.model_dump(by_alias=True, mode="json", exclude={"variants"})
    rows = [
        (path, _origin(path, loaded), json.dumps(value, ensure_ascii=False))
        for path, value in _leaves(tree, "")
    ]
    return table(("key", "said in", "value"), rows)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - plain JSON
    if not isinstance(value, (dict, list)) or not value:
        yield path, value
        return
    nested = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in nested:
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _origin(path: str, loaded: LoadedConfig) -> str:
    """Where a value was said, `default` where nobody did."""
    key = path
    while key and key not in loaded.origins:
        key = key.rpartition(".")[0]
        if key and not _is_list_item(path, key):
            return "default"
    return loaded.origins.get(key, "default")


def _is_list_item(path: str, key: str) -> bool:
    """Whether an index follows `key` in `path`, so that the list's own line is the answer."""
    return path[len(key) + 1 :].partition(".")[0].isdigit()


def schema_text() -> str:
    """The JSON Schema of `config.yaml`, where only what has no default is required."""
    schema = Config.model_json_schema(by_alias=True)
    schema["title"] = "config.yaml"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"


def write_schema(root: Path = ROOT) -> Path:
    """Write `config.schema.json` and return where."""
    path = root / SCHEMA_NAME
    path.write_text(schema_text(), encoding="utf-8")
    return path
