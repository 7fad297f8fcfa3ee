"""Recognise known failures in logs."""

from __future__ import annotations

import re
from typing import Final

from scripts.common.diagnostics.table import Diagnostic, diagnostics

# Lines of the worker that name a code: a failed preflight check, and the reason of an exit.
_WORKER_LINE: Final = re.compile(
    r"level=error event=preflight code=([a-z0-9-]+)| finding=([a-z0-9-]+)"
)
# Codes that say what failed, but not why: a log may know more.
_VAGUE: Final = ("", "not-drawn", "not-ready", "package-missing", "port-closed", "webui-died")


def match(text: str) -> Diagnostic | None:
    """Return the first known failure, in the table's order, whose signature is in a text."""
    return next((row for row in diagnostics().values() if row.search(text)), None)


def refine_code(code: str, log: str) -> str:
    """Return the code of a failure's cause.

    Args:
        code: of the failed check.
        log: of the worker, or the output of the command that failed.

    Returns:
        The check's code, unless it is vague and the log shows a known failure.
    """
    if code not in _VAGUE:
        return code
    if named := _WORKER_LINE.search(log):
        return named[1] or named[2]
    row = match(log)
    return row.code if row else code


def excerpt(code: str, log: str, context: int = 2) -> str:
    """Return the lines of a log that show a failure.

    Args:
        code: of the failure.
        log: of the worker, or the output of the command that failed.
        context: lines before and after the one that shows it.

    Returns:
        Those lines; the last ones when no line shows a vague failure; else nothing.
    """
    lines = log.splitlines()
    found = next((i for i, line in enumerate(lines) if _shows(code, line)), None)
    if found is not None:
        return "\n".join(lines[max(found - context, 0) : found + context + 1])
    return "\n".join(lines[-2 * context - 1 :]) if code in _VAGUE else ""


def _shows(code: str, line: str) -> bool:
    """Return whether a line names a failure or has its signature."""
    if (named := _WORKER_LINE.search(line)) and code in named.groups():
        return True
    row = diagnostics().get(code)
    return row is not None and row.search(line) is not None
