"""Reads the layers of the config and merges them, remembering which line each value came from.

Pure but for reading the files: a layer is a tree of plain values plus a map from key path to
`file:line`. Maps merge, lists and scalars are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scripts.common.diagnostics.error import UserError

Tree = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """Values of one place, and where each key path was said.

    Args:
        tree: the values.
        origins: key path (`a.b.0.c`) to `file:line`, for maps and lists as well as scalars.
        name: what messages call it where no line is to blame.
    """

    tree: Tree
    origins: dict[str, str] = field(default_factory=dict)
    name: str = "config.yaml"


def read_layer(path: Path, shown_as: str) -> Layer:
    """Parse one YAML file.

    Args:
        path: the file.
        shown_as: how messages name it.

    Raises:
        UserError: it cannot be read, is not YAML, is not a map, or says a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"it cannot be read: {reason}", location=shown_as) from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Layer({}, name=shown_as)
        if not isinstance(node, yaml.MappingNode):
            raise UserError("expected a map of keys", location=f"{shown_as}:1")
        origins: dict[str, str] = {}
        _walk(node, "", shown_as, origins)
        return Layer(loader.construct_document(node), origins, shown_as)
    except yaml.reader.ReaderError as error:
        raise UserError(f"not valid YAML: {error.reason}", location=shown_as) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown_as}:{mark.line + 1}" if mark else shown_as
        raise UserError(
            f"not valid YAML: {error.problem or error.context}",
            location=where,
            hint="mend the line; indentation and colons are the usual cause",
        ) from None
    except RecursionError:
        raise UserError(
            "an alias contains itself", location=shown_as, hint="write it out"
        ) from None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: str, shown_as: str, origins: dict[str, str]) -> None:
    """Note the line of every key path below `node`."""
    for key, child, line in _children(node):
        below = f"{path}.{key}" if path else key
        where = f"{shown_as}:{line}"
        if below in origins:
            raise UserError(
                f"the key {below} is said twice", location=where, hint="keep one of them"
            )
        origins[below] = where
        _walk(child, below, shown_as, origins)


def _children(node: yaml.Node) -> list[tuple[str, yaml.Node, int]]:
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), child, key.start_mark.line + 1) for key, child in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(i), child, child.start_mark.line + 1) for i, child in enumerate(node.value)]
    return []


def override(words: str) -> Layer:
    """The layer that one `-D key.path=value` makes; the value is read as YAML.

    Raises:
        UserError: it is not of that form.
    """
    path, equals, value = words.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise UserError(
            f"-D {words} is not key.path=value", hint="for example: -D build.network=host"
        )
    try:
        leaf = yaml.safe_load(value)
    except yaml.YAMLError:
        leaf = value
    where = f"-D {path}"
    tree: Any = leaf
    for key in reversed(keys):
        tree = {key: tree}
    prefixes = [".".join(keys[: i + 1]) for i in range(len(keys))]
    return Layer(tree, dict.fromkeys(prefixes, where))


def below(layer: Layer, *keys: str) -> Layer:
    """The part of a layer under some keys, as a layer of its own; a key may contain dots."""
    tree: Any = layer.tree
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    if not isinstance(tree, dict):
        return Layer({})
    start = ".".join([*keys, ""])
    return Layer(
        tree,
        {key[len(start) :]: at for key, at in layer.origins.items() if key.startswith(start)},
    )


def merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` over `lower`: maps merge, everything else is replaced with what lies below it."""
    origins = dict(lower.origins)
    tree = _merged(lower.tree, upper.tree, "", origins)
    return Layer(tree, origins | upper.origins)


def _merged(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: str, origins: dict[str, str]
) -> Tree:
    result = dict(lower)
    for key, value in upper.items():
        here = f"{path}{key}"
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value, f"{here}.", origins)
            continue
        result[key] = value
        for stale in [known for known in origins if known.startswith(f"{here}.")]:
            del origins[stale]
    return result
