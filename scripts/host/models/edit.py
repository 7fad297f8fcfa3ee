"""Adds models to `config.yaml` and removes them, leaving every other line as it was written."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.config.load import load
from scripts.host.config.lock import Lock, read_lock, update_lock

_BY_HAND = "edit the models in config.yaml by hand"


def entry(
    name: str,
    source: str,
    path: str,
    *,
    revision: str = "main",
    sha256: str = "",
    placement: str = "image",
    allow_pickle: bool = False,
) -> dict[str, object]:
    """A model as `config.yaml` says it, without what is default anyway.

    Args:
        name: what tasks call it.
        source: hub:owner/repo/file, or a URL.
        path: absolute path in the image.
        revision: of a Hub repository.
        sha256: expected; empty for unpinned.
        placement: image or volume.
        allow_pickle: accept a pickle.

    Raises:
        UserError: the source is neither.
    """
    found = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)/(.+)", source)
    if not found and not re.match(r"(https?|file)://", source):
        raise UserError(f"not a source: {source}", hint="hub:owner/repo/file, or a URL")
    return {
        "name": name,
        "source": (
            {"hub": found[1], "file": found[2], "revision": revision} if found else {"url": source}
        ),
        "path": path,
        **({"sha256": sha256} if sha256 else {}),
        **({"placement": placement} if placement != "image" else {}),
        **({"allow_pickle": True} if allow_pickle else {}),
    }


def add(root: Path, entry: dict[str, object]) -> None:
    """Append a model to the config.

    Args:
        root: the checkout.
        entry: the model, as `config.yaml` says it.

    Raises:
        UserError: the config would not be valid with it.
    """
    lines, models = _models(root)
    text = yaml.safe_dump([entry], sort_keys=False, default_flow_style=None, width=1000)
    if models.value:
        indent = models.value[0].start_mark.column - 2
        at = _last_line(models.value[-1]) + 1
    else:
        at = models.start_mark.line + 1
        lines[at - 1] = "models:\n"
        indent = 2
    new = [" " * indent + line + "\n" for line in text.splitlines()]
    _replace(root, lines[:at] + new + lines[at:])


def remove(root: Path, name: str) -> None:
    """Take a model out of config and lock; the store keeps its files until `models.prune`.

    Args:
        root: the checkout.
        name: the model.

    Raises:
        UserError: there is no such model.
    """
    lines, models = _models(root)
    found = [node for node in models.value if _name(node) == name]
    if not found:
        names = ", ".join(_name(node) for node in models.value)
        raise UserError(
            f"there is no model {name}", location="config.yaml", hint=f"one of: {names}"
        )
    first, last = found[0].start_mark.line, _last_line(found[0])
    before = lines[:first]
    if len(models.value) == 1:
        before[models.start_mark.line - 1] = "models: []\n"
    _replace(root, before + lines[last + 1 :])

    def without(lock: Lock) -> Lock:
        kept = {key: value for key, value in lock.models.items() if key != name}
        return lock.model_copy(update={"models": kept})

    if name in read_lock(root).models:
        update_lock(root, without)


def _models(root: Path) -> tuple[list[str], yaml.SequenceNode]:
    """The config's lines, and the node of its models with line numbers."""
    text = (root / "config.yaml").read_text(encoding="utf-8")
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = tree.value if isinstance(tree, yaml.MappingNode) else []
    for key, value in pairs:
        if key.value == "models" and isinstance(value, yaml.SequenceNode):
            if value.flow_style and value.value:
                raise UserError("the models are written in one line", hint=_BY_HAND)
            return text.splitlines(keepends=True), value
    raise UserError("the config has no list of models", location="config.yaml", hint=_BY_HAND)


def _name(node: yaml.Node) -> str:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(value.value) for key, value in pairs if key.value == "name"), "")


def _last_line(node: yaml.Node) -> int:
    """Number of the last line that a node really has text on, from 0.

    The end of a block is where the next thing begins, comments skipped; its leaves know better.
    """
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return max(_last_line(value) for _, value in node.value)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return max(_last_line(value) for value in node.value)
    return node.end_mark.line


def _replace(root: Path, lines: list[str]) -> None:
    """Write the config in one step, once it is known to be valid."""
    text = "".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(text, encoding="utf-8")
        load(root=Path(folder), environment={})  # config.yaml by itself
    write_atomically(root / "config.yaml", text)
