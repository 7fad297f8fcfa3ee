"""Read and merge the layers of the config, and locate errors in them.

A layer is a tree of plain values and a map from key path to `file:line`. Maps merge, lists and
scalars are replaced.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.common.secrets import has_token

Tree = dict[str, Any]

_SHOWN = 60  # characters of a wrong value that a message repeats

_EXPECTED = {  # pydantic's error types, described in terms of YAML
    "extra_forbidden": "unknown key",
    "missing": "missing value",
    "too_short": "expected a list with a value",
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "expected a map"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    "string_type": "expected text",
    "string_too_short": "expected text",
}


@dataclass(frozen=True)
class Layer:
    """Values of one file or override, and the place of each.

    Args:
        tree: the values.
        origins: key path (`a.b.0.c`) to `file:line`, for maps and lists as well as scalars.
        name: name of the layer in messages about no particular line.
    """

    tree: Tree
    origins: dict[str, str] = field(default_factory=dict)
    name: str = "config.yaml"

    def origin_of(self, path: str) -> str:
        """Return the place of a key path, or of the nearest one above it."""
        while path and path not in self.origins:
            path = path.rpartition(".")[0]
        return self.origins.get(path, self.name)


def read_layer(path: Path, name: str) -> Layer:
    """Parse one YAML file.

    Args:
        path: the file.
        name: name of the file in messages.

    Raises:
        UserError: it cannot be read, is not YAML, is not a map, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"cannot be read: {reason}", location=name) from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Layer({}, name=name)
        if not isinstance(node, yaml.MappingNode):
            raise UserError("expected a map of keys", location=f"{name}:1")
        origins: dict[str, str] = {}
        _collect_origins(node, "", name, origins)
        return Layer(loader.construct_document(node), origins, name)
    except yaml.reader.ReaderError as error:
        raise UserError(f"not valid YAML: {error.reason}", location=name) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(
            f"not valid YAML: {error.problem or error.context}",
            location=f"{name}:{mark.line + 1}" if mark else name,
            hint="correct the line; indentation and colons are the usual cause",
        ) from None
    except RecursionError:
        raise UserError(
            "an alias contains itself", location=name, hint="write the value out"
        ) from None
    finally:
        loader.dispose()


def _collect_origins(node: yaml.Node, path: str, name: str, origins: dict[str, str]) -> None:
    """Add the line of every key path below `node`."""
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), child, key) for key, child in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), child, child) for index, child in enumerate(node.value)]
    else:
        return
    for key, child, marked in children:
        child_path = f"{path}.{key}" if path else key
        location = f"{name}:{marked.start_mark.line + 1}"
        if child_path in origins:
            raise UserError(
                f"duplicate key {child_path}", location=location, hint="keep one of them"
            )
        origins[child_path] = location
        _collect_origins(child, child_path, name, origins)


def parse_override(text: str) -> Layer:
    """Make a layer of one `-D key.path=value`; the value is read as YAML.

    Raises:
        UserError: it does not have that form.
    """
    path, equals, value = text.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise UserError(
            f"-D {text} is not key.path=value", hint="for example: -D build.network=host"
        )
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        tree = value
    paths = [".".join(keys[: i + 1]) for i in range(len(keys))] + list(_paths_below(tree, path))
    for key in reversed(keys):
        tree = {key: tree}
    return Layer(tree, dict.fromkeys(paths, f"-D {path}"))


def _paths_below(value: object, path: str) -> Iterator[str]:
    """Yield the key path of every map's value below `value`."""
    for key, child in value.items() if isinstance(value, dict) else ():
        yield f"{path}.{key}"
        yield from _paths_below(child, f"{path}.{key}")


def sublayer(layer: Layer, key: str) -> Layer:
    """Return the part of a layer below a key, which may contain dots, as a layer."""
    tree, below = layer.tree.get(key), f"{key}."
    if not isinstance(tree, dict):
        return Layer({})
    origins = {
        path.removeprefix(below): origin
        for path, origin in layer.origins.items()
        if path.startswith(below)
    }
    return Layer(tree, origins)


def merge(lower: Layer, upper: Layer) -> Layer:
    """Merge `upper` over `lower`: maps merge, everything else is replaced."""
    origins = dict(lower.origins)
    tree = _merge_trees(lower.tree, upper.tree, "", origins)
    return Layer(tree, origins | upper.origins)


def _merge_trees(
    lower: Mapping[str, Any], upper: Mapping[str, Any], prefix: str, origins: dict[str, str]
) -> Tree:
    result = dict(lower)
    for key, value in upper.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge_trees(result[key], value, f"{path}.", origins)
            continue
        result[key] = value
        for stale in [known for known in origins if known.startswith(f"{path}.")]:
            del origins[stale]
    return result


def validation_error(error: ValidationError, layer: Layer, *, name: str, hint: str) -> UserError:
    """Describe the first of pydantic's errors in one line with what was given; count the others.

    Args:
        error: pydantic's.
        layer: what was validated.
        name: name of the whole, for an error that belongs to no key.
        hint: the next step.
    """
    errors = error.errors(include_url=False)
    # A list counts as too short where its values are wrong.
    first = min(
        errors, key=lambda each: (each["type"] in ("missing", "too_short"), len(each["loc"]))
    )
    path = _key_path(first["loc"], layer)
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    expected = _EXPECTED.get(first["type"], message)
    if not path:  # an error of the whole names the key that it is about
        path, _, expected = expected.partition(": ") if ": " in expected else ("", "", expected)
    given = _shown(first["input"]) if "expected" in expected else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return UserError(
        f"{path or name}: {expected}{given}{more}", location=layer.origin_of(path), hint=hint
    )


def _shown(value: object) -> str:
    """Return a wrong value as part of a message; nothing for what is long or may be secret."""
    if isinstance(value, str) and (re.search(r"[@?]|://", value) or has_token(value.encode())):
        return ""
    is_scalar = value is None or isinstance(value, (str, int, float))
    text = json.dumps(value, ensure_ascii=False) if is_scalar else ""
    return f", not {text}" if 0 < len(text) <= _SHOWN else ""


def _key_path(loc: tuple[int | str, ...], layer: Layer) -> str:
    """Return an error's key path, without the tag that pydantic adds for a member of a union."""
    keys = [str(part) for part in loc]
    kept: list[str] = []
    for index, key in enumerate(keys):
        is_tag = keys[index - 1 : index] == ["source"] and key in ("hub", "url")
        is_last = index == len(keys) - 1
        if not is_tag or (is_last and ".".join([*kept, key]) in layer.origins):
            kept.append(key)
    return ".".join(kept)
