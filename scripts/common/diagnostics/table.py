"""Read the table of known failures, `table.ini`.

`invoke doctor`, the container's preflight, the smoke tests, the worker and the docs share it, so a
failure has the same code, message and hint wherever it shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Diagnostic:
    """A known failure.

    Args:
        code: stable name, lower case with hyphens.
        message: what is wrong, as a clause without a full stop.
        hint: next step, as an imperative.
        signature: regular expression that matches logs of this failure; empty where none does.
    """

    code: str
    message: str
    hint: str
    signature: str = ""

    def search(self, text: str) -> re.Match[str] | None:
        """Find this failure's signature in a log."""
        return re.search(self.signature, text) if self.signature else None


@cache
def diagnostics() -> Mapping[str, Diagnostic]:
    """Return every known failure by code, in the table's order."""
    from configparser import ConfigParser  # not needed by a run without failures

    table = ConfigParser(interpolation=None)
    table.read_string(Path(__file__).with_name("table.ini").read_text(encoding="utf-8"))
    return {
        code: Diagnostic(
            code,
            row["message"],
            row["hint"],
            "|".join(row.get("signatures", "").split("\n")).strip("|"),
        )
        for code, row in table.items()
        if code != table.default_section
    }
