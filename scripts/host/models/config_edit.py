"""Add models to `config.yaml` and remove them; every other byte of the file stays as it is.

The YAML parser only gives the positions of models and tokens; text is inserted or cut there.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.config.layers import read_layer
from scripts.host.config.load import load
from scripts.host.config.lock import Lock, read_lock, update_lock
from scripts.host.config.model_links import read_source

_NAME = "config.yaml"
_BY_HAND = "edit the models in config.yaml by hand"


def model_entry(
    name: str,
    source: str,
    path: str = "",
    *,
    kind: str = "",
    family: str = "",
    revision: str = "",
    sha256: str = "",
    placement: str = "image",
    allow_pickle: bool = False,
    licence: str = "",
) -> dict[str, object]:
    """Return a model as `config.yaml` holds it, without default values.

    Args:
        name: name of the model in tasks.
        source: as `read_source` takes it.
        path: absolute path in the container, or relative to the folder of the kind; empty for the
            place that the kind gives.
        kind: one of `KINDS`; empty for none.
        family: of the kind; empty for the one that the file's name suggests.
        revision: of a Hub repository; empty for the source's own.
        sha256: expected; empty for unpinned.
        placement: image or volume.
        allow_pickle: accept a pickle.
        licence: its licence; empty if unknown.

    Raises:
        UserError: the source names no file, or holds a secret.
    """
    try:
        found = read_source(source, revision)
    except ValueError as error:
        raise UserError(f"not a source: {error}", hint="see docs/how-to/models.md") from None
    return {
        "name": name,
        "source": found,
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
    _write(root, insert_models(ConfigText.read(root), [entry]))


def insert_models(config: ConfigText, entries: Sequence[Mapping[str, object]]) -> str:
    """Return the text of a config with further models at the end of its list."""
    text, models, end = config.text, config.models, config.models.end_mark.index
    last, is_block = models.value[-1] if models.value else None, not config.document.flow_style
    if last and not models.flow_style:
        return _insert_lines(
            text, config.line_end(last), config.dash(last).column, dump_lines(entries)
        )
    if is_block and text[end - 2 : end] == "[]":
        start = len(text[: end - 2].rstrip(" "))
        text = text[:start] + text[end:]
        return _insert_lines(text, _line_end(text, start), 2, dump_lines(entries))
    at = last.end_mark.index if last else end - 1
    items = ", ".join(_dump_flow(entry) for entry in entries)
    return text[:at] + (", " if last else "") + items + text[at:]


def insert_variant(config: ConfigText, lines: Sequence[str]) -> str:
    """Return the text of a config with further lines at the end of its variants.

    Args:
        config: the config.
        lines: a variant as `dump_lines` gives it, and comments.

    Raises:
        UserError: the variants are not written one below the other.
    """
    variants = config.value_of("variants")
    if not isinstance(variants, yaml.MappingNode) or variants.flow_style or not variants.value:
        raise UserError(
            "the variants are not written one below the other", location=config.name, hint=_BY_HAND
        )
    (first, _), (_, last) = variants.value[0], variants.value[-1]
    return _insert_lines(config.text, config.line_end(last), first.start_mark.column, lines)


def remove_model(root: Path, name: str) -> None:
    """Remove a model from config and lock; the store keeps its files until `models.prune`.

    Raises:
        UserError: there is no such model.
    """
    config = ConfigText.read(root)
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
class ConfigText:
    """The text of a config file, and the place of each model in it.

    Args:
        name: name of the file.
        text: the text; line ends are as in the file.
        names: names of the models.
        models: the list of models.
        document: the whole file.
        tokens: all tokens that have a text.
    """

    name: str
    text: str
    names: list[str]
    models: yaml.SequenceNode
    document: yaml.MappingNode
    tokens: list[yaml.Token]

    @classmethod
    def read(cls, root: Path, name: str = _NAME) -> ConfigText:
        """Read a config file below `root`.

        Raises:
            UserError: the file is not valid YAML, or has no list of models of its own.
        """
        tree = read_layer(root / name, name).tree
        text = (root / name).read_bytes().decode()
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        models = _find_value(document, "models")
        if not isinstance(document, yaml.MappingNode) or not isinstance(models, yaml.SequenceNode):
            raise UserError("the config has no list of models", location=name, hint=_BY_HAND)
        start, end = models.start_mark.index, models.end_mark.index
        if not all(start <= model.start_mark.index < end for model in models.value):
            raise UserError("a model stands elsewhere in the file", location=name, hint=_BY_HAND)
        names = [str(model["name"]) for model in tree["models"]]
        tokens = [each for each in yaml.scan(text) if each.end_mark.index > each.start_mark.index]
        return cls(name, text, names, models, document, tokens)

    def value_of(self, key: str) -> yaml.Node | None:
        """Return the value of a key of the whole file; None without one."""
        return _find_value(self.document, key)

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


def _find_value(document: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = document.value if isinstance(document, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


class _Dumper(yaml.SafeDumper):
    """Writes lists with their dashes below the key, two blanks to the right."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's own
        super().increase_indent(flow, indentless=False)


def dump_lines(value: Mapping[str, object] | Sequence[object]) -> list[str]:
    """Return a value as lines of YAML, in which maps and lists without others are one line."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=10**6,
        allow_unicode=True,
    )
    return str(text).splitlines()


def _dump_flow(entry: Mapping[str, object]) -> str:
    text = yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, width=10**6)
    return str(text).strip()


def _insert_lines(text: str, at: int, indent: int, lines: Sequence[str]) -> str:
    """Insert a block item at the end of a line."""
    newline = ("\r\n" if "\r\n" in text else "\n") + " " * indent
    return text[:at] + "".join(newline + line for line in lines) + text[at:]


def _cut_block_item(config: ConfigText, node: yaml.Node) -> str:
    """Cut the lines of a block item; the last one leaves an empty list."""
    text, dash = config.text, config.dash(node).index
    start = text.rfind("\n", 0, dash) + 1
    end = text.find("\n", config.line_end(node)) + 1 or len(text)
    if len(config.models.value) > 1:
        return text[:start] + text[end:]
    key_end = [each.end_mark.index for each in config.tokens if each.end_mark.index < dash][-1]
    return text[:key_end] + " []" + text[key_end:start] + text[end:]


def _cut_flow_item(config: ConfigText, node: yaml.Node) -> str:
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
