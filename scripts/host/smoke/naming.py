"""Gives a failure its name from `scripts.common.findings`. Pure."""

from __future__ import annotations

import re
from typing import Final

from scripts.common.findings import FINDINGS

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
    return next((row.code for row in FINDINGS.values() if _in(row.signature, said)), own)


def excerpt(code: str, said: str, context: int = 2) -> str:
    """The lines of a log that show a known failure, empty where none does."""
    signature = FINDINGS[code].signature if code in FINDINGS else ""
    lines = said.splitlines()
    at = next((i for i, line in enumerate(lines) if _in(signature, line)), None)
    return "" if at is None else "\n".join(lines[max(at - context, 0) : at + context + 1])


def _in(signature: str, said: str) -> bool:
    return bool(signature) and re.search(signature, said) is not None
