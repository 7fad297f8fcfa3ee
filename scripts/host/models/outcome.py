"""What a prefetch ends with: a table for people, JSON for machines; light to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from scripts.host.console import table, terminal_width

if TYPE_CHECKING:
    from scripts.host.models.artifacts import Item
    from scripts.host.models.prefetch import Result

HEADER: Final = ("model", "size", "source", "revision", "sha256", "state", "seconds", "MB/s")


def named(item: Item) -> dict[str, str]:
    """Which file it is, as JSON holds it."""
    return {"model": item.model.name, "file": item.file}


def facts_of(result: Result) -> dict[str, Any]:
    """A result as JSON holds it."""
    return {
        **named(result.item),
        "path": str(result.path),
        "source": result.item.shown_source,
        "revision": result.item.revision,
        "sha256": result.sha256,
        "size": result.size,
        "state": result.state,
        "took": round(result.seconds, 3),
        "moved": result.moved,
    }


def row_of(result: Result) -> tuple[str, ...]:
    """A result as the table's cells."""
    from scripts.host.console import size

    return (
        result.item.label,
        size(result.size),
        result.item.shown_source,
        result.item.revision[:8] or "-",
        result.sha256[:8],
        result.state,
        f"{result.seconds:.1f}",
        f"{result.moved / result.seconds / 1e6:.1f}" if result.moved and result.seconds else "-",
    )


def table_of(rows: Iterable[Sequence[str]]) -> str:
    """The table at the end of a prefetch."""
    return table(HEADER, list(rows), right=(1, 6, 7), width=terminal_width())
