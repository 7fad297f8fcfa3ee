"""Gives a failure its name from `scripts.common.diagnostics.table`. Pure."""

from __future__ import annotations

import re
from typing import Final

from scripts.common.diagnostics.table import DIAGNOSTICS

# The worker's own lines: its preflight's failures, and what it makes of a death.
_NAMED: Final = re.compile(r"level=error event=preflight code=([a-z0-9-]+)| finding=([a-z0-9-]+)")
# What says that something went wrong, but not what: the log may know more.
_VAGUE: Final = ("", "not-drawn", "not-ready", "package-missing", "port-closed", "webui-died")


def named(own: str, said: str) -> str:
    """The code of a failure.

    Args:
        own: the failed check's own code.
        said: log of the worker, or output of the command that failed.

    Returns:
        The check's code, unless it is vague and a known failure is recognised in what was said.
    """
    if own not in _VAGUE:
        return own
    if found := _NAMED.search(said):
        return found[1] or found[2]
    return next((row.code for row in DIAGNOSTICS.values() if _in(row.signature, said)), own)


def excerpt(code: str, said: str, context: int = 2) -> str:
    """The lines of a log that show a failure.

    Args:
        code: of the failure.
        said: the log, or the output of the command that failed.
        context: lines before and after the one that shows it.

    Returns:
        Those lines; of a vague failure that none shows, the last ones; else nothing.
    """
    lines = said.splitlines()
    at = next((i for i, line in enumerate(lines) if _shows(code, line)), None)
    if at is not None:
        return "\n".join(lines[max(at - context, 0) : at + context + 1])
    return "\n".join(lines[-2 * context - 1 :]) if code in _VAGUE else ""


def _shows(code: str, line: str) -> bool:
    """Whether a line is the one that a failure is recognised by."""
    if (found := _NAMED.search(line)) and code in found.groups():
        return True
    return code in DIAGNOSTICS and _in(DIAGNOSTICS[code].signature, line)


def _in(signature: str, said: str) -> bool:
    return bool(signature) and re.search(signature, said) is not None
