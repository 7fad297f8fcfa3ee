"""Result of one check, and the plain-text table of results for a terminal.

Shared by `invoke doctor`, the container's preflight and the smoke tests.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scripts.common.diagnostics.table import Diagnostic, diagnostics

Outcome = Literal["passed", "warned", "failed", "skipped"]
LEVELS: Final = {"passed": "ok", "warned": "warn", "failed": "fail", "skipped": "skip"}
"""Outcomes as printed, and as the `level` of a JSON report."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Args:
        name: the check's name, shown and stored in reports.
        outcome: `failed` makes a build, a start or a test pointless; `warned` may do so later.
        evidence: the facts that the outcome rests on, or why the check was skipped.
        code: entry of the diagnostics table that explains it; empty when all is well.
        seconds: duration, where it is of interest.
    """

    name: str
    outcome: Outcome
    evidence: str = ""
    code: str = ""
    seconds: float | None = None

    @property
    def level(self) -> str:
        """Return the outcome as printed: ok, warn, fail or skip."""
        return LEVELS[self.outcome]

    @property
    def diagnostic(self) -> Diagnostic | None:
        """Return the entry of the diagnostics table that explains the result, if any."""
        return diagnostics().get(self.code)

    @property
    def message(self) -> str:
        """Return what the code means; empty without one."""
        return self.diagnostic.message if self.diagnostic else ""

    @property
    def hint(self) -> str:
        """Return what to do next; empty when nothing has to be done."""
        return self.diagnostic.hint if self.diagnostic else ""

    def to_json(self) -> dict[str, str]:
        """Return the fields of a JSON report."""
        return {
            "check": self.name,
            "level": self.level,
            "evidence": self.evidence,
            "code": self.code,
            "sentence": self.message,
            "cure": self.hint,
        }


def format_results(
    results: Sequence[CheckResult],
    width: int = 0,
    *,
    brief: bool = False,
    paint: Callable[[str, Outcome], str] = lambda word, _: word,
) -> str:
    """Format a table: one row a check, with outcome, seconds where known, name and evidence.

    Args:
        results: in the order to show them.
        width: columns of the terminal, 0 for no limit.
        brief: cut long evidence instead of wrapping it, and leave out messages and hints.
        paint: colours the word of an outcome.
    """
    name_width = max((len(result.name) for result in results), default=0)
    lines: list[str] = []
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:6.1f} s  "
        start = f"{result.level:<4}  {seconds}{result.name:<{name_width}}  "
        texts = [result.evidence, *([] if brief else _explain(result))]
        rows = [
            _wrap(text, start if not i else " " * len(start), width, cut=brief)
            for i, text in enumerate(texts)
        ]
        rows[0] = paint(result.level, result.outcome) + rows[0][len(result.level) :]
        lines += rows
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return text on one line, without characters that would move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, width: int) -> str:
    """Cut text to a number of columns; 0 is no limit."""
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def _explain(result: CheckResult) -> Iterator[str]:
    if result.code:
        yield result.message
        yield f"hint: {result.hint} [{result.code}]"


def _wrap(text: str, start: str, width: int, *, cut: bool) -> str:
    """Begin a line with `start`, and continue it below the text; long words stay whole."""
    text = printable(text)
    if cut:
        return shorten(f"{start}{text}".rstrip(), width)
    return (
        textwrap.fill(
            text,
            width=width or sys.maxsize,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
        or start.rstrip()
    )
