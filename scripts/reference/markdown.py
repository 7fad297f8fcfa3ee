"""Write Markdown from data and docstrings."""

import inspect
import re
from collections.abc import Iterable, Sequence

_ARGUMENT = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |^\S|\Z)", re.MULTILINE | re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Escape what would end a cell, and placeholders outside of code that would be read as HTML."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"<(\w+)>", r"&lt;\1&gt;", part) for part in parts[::2]]
    return "`".join(parts)


def code(text: object) -> str:
    """Return text as code; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())


def arguments(docstring: str) -> dict[str, str]:
    """Return the descriptions of a docstring's `Args:` section, by name."""
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    return {name: " ".join(text.split()).rstrip(".") for name, text in _ARGUMENT.findall(section)}
