"""Add models to `config.yaml` and remove them; every other byte of the file stays as it is.

The YAML parser only gives the positions of models and tokens; text is inserted or cut there.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.config.layers import read_layer
from scripts.host.config.load import load
from scripts.host.config.lock import Lock, read_lock, update_lock

_NAME = "config.yaml"
_BY_HAND = "edit the models in config.yaml by hand"


def model_entry(
    name: str,
    source: str,
    path: str = "",
    *,
    kind: str = "",
    family: str = "",
    revision: str = "main",
    sha256: str = "",
    placement: str = "image",
    allow_pickle: bool = False,
    licence: str = "",
) -> dict[str, object]:
    """Return a model as `config.yaml` holds it, without default values.

    Args:
        name: name of the model in tasks.
        source: hub:owner/repo/file, or a URL.
        path: absolute path in the container, or relative to the folder of the kind; empty for the
            place that the kind gives.
        kind: one of `KINDS`; empty for none.
        family: of the kind; empty for the one that the file's name suggests.
        revision: of a Hub repository.
        sha256: expected; empty for unpinned.
        placement: image or volume.
        allow_pickle: accept a pickle.
        licence: its licence; empty if unknown.

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
        **({"kind": kind} if kind else {}),
        **({"family": family} if family else {}),
        **({"path": path} if path else {}),
        **({"sha256": sha256} if sha256 else {}),
        **({"placement": placement} if placement != "image" else {}),
        **({"allow_pickle": True} if allow_pickle else {}),
        **({"licence": licence} if licence else {}),
    }


def add_model(root: Path, entry: dict[str, object]) -> None:
    """Append a model to the config below `root`.

    Raises:
        UserError: the config would not be valid with it.
    """
    config = _Config.read(root)
    text, models, end = config.text, config.models, config.models.end_mark.index
    last = models.value[-1] if models.value else None
    if last and not models.flow_style:
        text = _insert_lines(text, config.line_end(last), config.dash(last).column, entry)
    elif config.is_block and text[end - 2 : end] == "[]":
        start = len(text[: end - 2].rstrip(" "))
        text = text[:start] + text[end:]
        text = _insert_lines(text, _line_end(text, start), 2, entry)
    else:
        at = last.end_mark.index if last else end - 1
        text = text[:at] + (", " if last else "") + _dump(entry, is_flow=True) + text[at:]
    _write(root, text)


def remove_model(root: Path, name: str) -> None:
    """Remove a model from config and lock; the store keeps its files until `models.prune`.

    Raises:
        UserError: there is no such model.
    """
    config = _Config.read(root)
    if name not in config.names:
        hint = f"one of: {', '.join(config.names)}"
        raise UserError(f"there is no model {name}", location=_NAME, hint=hint)
    node = config.models.value[config.names.index(name)]
    cut = _cut_flow_item if config.models.flow_style else _cut_block_item
    _write(root, cut(config, node))

    def drop(lock: Lock) -> Lock:
        kept = {key: value for key, value in lock.models.items() if key != name}
        return lock.model_copy(update={"models": kept})

    if name in read_lock(root).models:
        update_lock(root, drop)


def _write(root: Path, text: str) -> None:
    """Write the config, once it is known to be valid by itself."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _NAME).write_bytes(text.encode())
        load(root=Path(folder), environment={})
    write_atomically(root / _NAME, text.encode())


@dataclass(frozen=True)
class _Config:
    """The text of `config.yaml`, and the place of each model in it.

    Args:
        text: the text; line ends are as in the file.
        names: names of the models.
        models: the list of models.
        is_block: True if the file is not one `{...}`.
        tokens: all tokens that have a text.
    """

    text: str
    names: list[str]
    models: yaml.SequenceNode
    is_block: bool
    tokens: list[yaml.Token]

    @classmethod
    def read(cls, root: Path) -> _Config:
        """Read the config below `root`.

        Raises:
            UserError: the file is not valid YAML, or has no list of models of its own.
        """
        tree = read_layer(root / _NAME, _NAME).tree
        text = (root / _NAME).read_bytes().decode()
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        pairs = document.value if isinstance(document, yaml.MappingNode) else []
        models = next((value for key, value in pairs if key.value == "models"), None)
        if not isinstance(document, yaml.MappingNode) or not isinstance(models, yaml.SequenceNode):
            raise UserError("the config has no list of models", location=_NAME, hint=_BY_HAND)
        start, end = models.start_mark.index, models.end_mark.index
        if not all(start <= model.start_mark.index < end for model in models.value):
            raise UserError("a model stands elsewhere in the file", location=_NAME, hint=_BY_HAND)
        names = [str(model["name"]) for model in tree["models"]]
        tokens = [each for each in yaml.scan(text) if each.end_mark.index > each.start_mark.index]
        return cls(text, names, models, not document.flow_style, tokens)

    def dash(self, item: yaml.Node) -> yaml.Mark:
        """Return the position of a block item's dash."""
        dashes = [each.start_mark for each in self.tokens if isinstance(each, yaml.BlockEntryToken)]
        mark: yaml.Mark = [each for each in dashes if each.index <= item.start_mark.index][-1]
        return mark

    def line_end(self, item: yaml.Node) -> int:
        """Return where the last line of a block item ends, comments after it left out."""
        *_, last = (each for each in self.tokens if each.start_mark.index < item.end_mark.index)
        is_block_scalar = isinstance(last, yaml.ScalarToken) and last.style in ("|", ">")
        return _line_end(self.text, last.end_mark.index - is_block_scalar)


def _dump(entry: dict[str, object] | list[dict[str, object]], *, is_flow: bool | None) -> str:
    flow = yaml.safe_dump(entry, sort_keys=False, default_flow_style=is_flow, width=10**6)
    return flow.strip()


def _insert_lines(text: str, at: int, indent: int, entry: dict[str, object]) -> str:
    """Insert a block item at the end of a line."""
    newline = ("\r\n" if "\r\n" in text else "\n") + " " * indent
    lines = _dump([entry], is_flow=None).splitlines()
    return text[:at] + "".join(newline + line for line in lines) + text[at:]


def _cut_block_item(config: _Config, node: yaml.Node) -> str:
    """Cut the lines of a block item; the last one leaves an empty list."""
    text, dash = config.text, config.dash(node).index
    start = text.rfind("\n", 0, dash) + 1
    end = text.find("\n", config.line_end(node)) + 1 or len(text)
    if len(config.models.value) > 1:
        return text[:start] + text[end:]
    key_end = [each.end_mark.index for each in config.tokens if each.end_mark.index < dash][-1]
    return text[:key_end] + " []" + text[key_end:start] + text[end:]


def _cut_flow_item(config: _Config, node: yaml.Node) -> str:
    """Cut a flow item and a comma, and the line if nothing else is on it."""
    text, start, end = config.text, node.start_mark.index, node.end_mark.index
    following = next(each for each in config.tokens if each.start_mark.index >= end)
    if comma := re.search(r",[ \t]*$", text[:start]):
        start = comma.start()
    elif isinstance(following, yaml.FlowEntryToken):
        end = following.end_mark.index
        blanks = re.compile(r"[ \t]*(?!#)").match(text, end)  # a comment needs a blank before it
        end = blanks.end() if blanks else end
    elif comma := re.search(r",\s*$", text[:start]):
        start = comma.start()
    text, line = text[:start] + text[end:], text.rfind("\n", 0, start) + 1
    rest = re.compile(r"[ \t]*\r?\n").match(text, start)
    return text[:line] + text[rest.end() :] if rest and not text[line:start].strip() else text


def _line_end(text: str, position: int) -> int:
    """Return where the line of a position ends, before its newline."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1] == "\r" else end
