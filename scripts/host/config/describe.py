"""Print the merged config with the origin of each value, and make its JSON Schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.host.config.load import ROOT, LoadedConfig
from scripts.host.config.schema import Config
from scripts.host.console import table

SCHEMA_NAME = "config.schema.json"


def render_config(loaded: LoadedConfig) -> str:
    """Render one aligned line per value: key path, origin, value as JSON."""
    tree = loaded.config.model_dump(by_alias=True, mode="json", exclude={"variants"})
    rows = [
        (path, _origin(path, loaded.origins), json.dumps(value, ensure_ascii=False))
        for path, value in _leaves(tree, "")
    ]
    return table(("key", "origin", "value"), rows)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - plain JSON
    if not isinstance(value, (dict, list)) or not value:
        yield path, value
        return
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _origin(path: str, origins: dict[str, str]) -> str:
    """Return the place that set a value, or the list that contains it; else `default`."""
    key = path
    while key and key not in origins:
        key = key.rpartition(".")[0]
        is_list_item = path[len(key) + 1 :].partition(".")[0].isdigit()
        if key and not is_list_item:
            return "default"
    return origins.get(key, "default")


def schema_text() -> str:
    """Return the JSON Schema of `config.yaml`; only keys without a default are required."""
    schema = Config.model_json_schema(by_alias=True)
    schema["title"] = "config.yaml"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"


def write_schema(root: Path = ROOT) -> Path:
    """Write `config.schema.json` and return its path."""
    path = root / SCHEMA_NAME
    path.write_text(schema_text(), encoding="utf-8")
    return path
