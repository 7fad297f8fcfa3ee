"""Print results, notes and errors, tables and sizes.

Colour and live displays only on a terminal; plain lines elsewhere or when `NO_COLOR` is set
(https://no-color.org). Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from scripts.common.diagnostics.error import UserError
from scripts.common.secrets import make_redactor

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod, RenderableType
    from rich.live import Live

_UNLIMITED = 1_000_000  # columns
_NARROWEST = 8  # columns that a cut cell keeps
_printing = threading.RLock()  # held while a line is printed, so that it stays whole


@cache
def console() -> Console:
    """Return rich's view of standard error; `rich` is imported only where it is used."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def live(render: Callable[[], RenderableType]) -> Live:
    """Return a context that shows on the terminal what a function returns, until it ends."""
    from rich.live import Live

    return Live(get_renderable=render, console=console(), refresh_per_second=5, transient=True)


def is_live(stream: object = None) -> bool:
    """Return whether a stream (default: standard error) is a terminal without `NO_COLOR`."""
    target = sys.stderr if stream is None else stream
    return bool(getattr(target, "isatty", bool)()) and not os.environ.get("NO_COLOR")


def painted(word: str, colour: str, stream: object = None) -> str:
    """Return a word in an ANSI colour (31 is red) if the stream is a terminal.

    Args:
        word: the text.
        colour: number of the colour.
        stream: where it is printed; standard error by default.
    """
    return f"\033[{colour}m{word}\033[0m" if is_live(stream) else word


def printable(text: str) -> str:
    """Return a text, such as a path, as one line, whatever bytes it is made of."""
    known = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in known)


def say(text: str = "") -> None:
    """Print one line of result."""
    with _printing:
        print(text, flush=True)


def note(text: str) -> None:
    """Print a line that is not part of the result; secrets of the environment are replaced."""
    with _printing:
        print(make_redactor(os.environ)(text), file=sys.stderr, flush=True)


@atexit.register
def _stop_printing() -> None:
    """Let no other thread print any more.

    A daemon thread that prints while the interpreter ends crashes it: "could not acquire lock for
    <stdout> at interpreter shutdown".
    """
    _printing.acquire(timeout=1.0)  # longer only where nobody reads what a thread prints


def warn(text: str) -> None:
    """Print one warning."""
    note(f"{painted('warning:', '33')} {text}")


def print_error(error: UserError) -> None:
    """Print an error as `error: message: location`, and below it `hint: next step [code]`."""
    message = ": ".join(filter(None, (error.message, error.location)))
    code = f"[{error.code}]" if error.code else ""
    hint = " ".join(filter(None, (error.hint, code)))
    second = f"\n{painted('hint:', '36')} {hint}" if hint else ""
    note(f"{painted('error:', '31')} {message}{second}")


class Throttle:
    """Limits how often something is reported.

    Args:
        seconds: between two reports.
        first: seconds before the first report; by default the same.
    """

    def __init__(self, seconds: float, first: float | None = None) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + (seconds if first is None else first)

    def is_due(self) -> bool:
        """Return whether to report now, and start the next pause if so."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int = 0,
) -> str:
    """Align rows under a header, two spaces apart, without lines around them.

    Args:
        header: column titles.
        rows: cells as text, as many as the header has.
        right: indexes of columns aligned to the right (sizes, seconds).
        width: most columns of text in a line, reached by cutting the longest cells, except those of
            the first column, which names the row, and of right-aligned ones; 0: no limit.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    least = 2 * (len(header) - 1)
    for index, cells in enumerate(zip(header, *rows, strict=True)):
        is_whole = index == 0 or index in right
        longest = max(map(len, cells))
        least += (narrowest := longest if is_whole else min(longest, _NARROWEST))
        justify: JustifyMethod = "right" if index in right else "left"
        grid.add_column(Text(header[index]), justify=justify, no_wrap=is_whole, min_width=narrowest)
    for row in rows:
        grid.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    # rich leaves out columns that do not fit: better let the terminal wrap the lines.
    paper = Console(width=max(width or _UNLIMITED, least), color_system=None)
    with paper.capture() as capture:
        paper.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def terminal_width() -> int:
    """Return the columns of standard output's terminal; 0 if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
