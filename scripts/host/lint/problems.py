"""What a linter found, in one shape whoever found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["error", "warning", "note"]
LEVELS: Final[dict[str, Level]] = {
    "error": "error",
    "warning": "warning",
    "info": "note",
    "note": "note",
    "style": "note",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "informational": "note",
    "unknown": "warning",
}


@dataclass(frozen=True, order=True)
class Problem:
    """One finding.

    Args:
        path: the file, relative to the checkout.
        line: counted from 1.
        column: counted from 1.
        rule: the tool's own name of what it dislikes.
        message: the tool's own words.
        level: as SARIF grades findings; every level fails the run.
        help_url: where the rule is explained; empty where nobody says.
    """

    path: str
    line: int
    column: int
    rule: str
    message: str
    level: Level = "error"
    help_url: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one linter says of the checkout.

    Args:
        tool: its name.
        problems: what it found, in order of place.
        files: how many files it was shown; None where it chooses them itself.
    """

    tool: str
    problems: tuple[Problem, ...]
    files: int | None = None
