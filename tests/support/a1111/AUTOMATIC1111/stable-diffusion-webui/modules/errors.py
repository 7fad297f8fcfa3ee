"""Report an error as upstream does: lines with three stars, an indented traceback, dashes."""

from __future__ import annotations

import sys
import textwrap
import traceback


def report(message: str, *, exc_info: bool = False) -> None:
    """Print an error to stderr; with the traceback of the exception that is being handled."""
    for line in message.splitlines():
        print("***", line, file=sys.stderr)
    if exc_info:
        print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr)
        print("---", file=sys.stderr, flush=True)
