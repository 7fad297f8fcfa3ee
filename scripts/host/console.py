"""How the project speaks to a person: calm lines, aligned tables, and one line per failure.

Colour and live displays only on a terminal; plain lines elsewhere or when `NO_COLOR` is set
(https://no-color.org). Results go to standard output, remarks to standard error.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from scripts.common.diagnostics.error import UserError
from scripts.common.units import size as size

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console(*, stderr: bool = True) -> Console:
    """The terminal, wrapped once per stream; `rich` is imported only where it is used."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


_forced_plain = False


@contextmanager
def progress_mode(mode: str) -> Iterator[None]:
    """Inside, progress does not move when `mode` is plain or quiet.

    Raises:
        UserError: there is no such mode.
    """
    global _forced_plain
    if mode not in ("auto", "plain", "quiet"):
        raise UserError(f"there is no progress mode {mode}", hint="one of: auto, plain, quiet")
    before, _forced_plain = _forced_plain, mode != "auto"
    try:
        yield
    finally:
        _forced_plain = before


def is_live(stream: object = None) -> bool:
    """Whether progress may move: a terminal, and `NO_COLOR` not set."""
    target = sys.stderr if stream is None else stream
    if _forced_plain:
        return False
    return bool(getattr(target, "isatty", bool)()) and not os.environ.get("NO_COLOR")


def painted(word: str, colour: str, stream: object = None) -> str:
    """A word in an ANSI colour (31 is red) where the stream is a terminal, as it is elsewhere.

    Args:
        word: what is printed.
        colour: number of the colour.
        stream: where it is printed; standard error by default.
    """
    return f"\033[{colour}m{word}\033[0m" if is_live(stream) else word


def say(text: str = "") -> None:
    """Print one line of result."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a remark that is not part of the result."""
    # In one piece: print() writes the newline by itself, and another thread may come between.
    print(f"{text}\n", end="", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print one warning line."""
    note(f"{painted('warning:', '33')} {text}")


def fail(failure: UserError) -> None:
    """Print a failure as its one line."""
    note(f"{painted('error:', '31')} {failure}")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int = 0,
) -> str:
    """Rows aligned under a header, two spaces apart, without lines around them.

    Args:
        header: column titles.
        rows: cells as text, each as many as the header has.
        right: indexes of columns aligned to the right (sizes, seconds).
        width: columns of text that must hold a line, by cutting the longest cells, but none of
            the first column, which names the row, nor of those aligned right; 0: no limit.
    """
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    if width:
        _narrow(widths, [i for i in range(1, len(header)) if i not in right], width)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else _cut(cell, width).ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _narrow(widths: list[int], flexible: Sequence[int], width: int) -> None:
    """Take from the widest columns until a line fits, or nothing readable would be left."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= 8:
            return
        widths[widest] -= 1


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def terminal_width() -> int:
    """Columns of the terminal that results go to; 0 where they go elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
