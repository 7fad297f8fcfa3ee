"""Results of checks, and their plain-text table for a terminal.

Shared by `invoke doctor`, the container's preflight and the smoke tests.
"""

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scripts.common.diagnostics.table import Diagnostic, diagnostics

Outcome = Literal["passed", "warned", "failed", "skipped"]
LEVELS: Final = {"passed": "ok", "warned": "warn", "failed": "fail", "skipped": "skip"}
"""Outcomes as printed, and as the `level` of a JSON report."""
_INDENT: Final = 6  # columns, below a row whose name leaves too little room


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Args:
        name: the check's name, shown and stored in reports.
        outcome: `failed` makes a build, a start or a test pointless; `warned` may do so later.
        evidence: the facts that the outcome rests on, or why the check was skipped.
        code: entry of the diagnostics table that explains it; empty when all is well.
        seconds: duration, where it is of interest.
        output: of a command that failed.
    """

    name: str
    outcome: Outcome
    evidence: str = ""
    code: str = ""
    seconds: float | None = None
    output: str = ""

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
    timed = any(result.seconds is not None for result in results)
    lines: list[str] = []
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:.1f} s"
        start = (
            f"{result.level:<4}  {f'{seconds:>8}  ' if timed else ''}{result.name:<{name_width}}  "
        )
        if brief:
            rows = [shorten(f"{start}{printable(result.evidence)}".rstrip(), width)]
        else:
            indent = " " * (len(start) if not width or len(start) <= width // 2 else _INDENT)
            rows = [_wrap(result.evidence, start, indent, width) or start.rstrip()]
            if result.code:
                hint = f"hint: {result.hint} [{result.code}]"
                rows += [_wrap(text, indent, indent, width) for text in (result.message, hint)]
        rows[0] = paint(result.level, result.outcome) + rows[0][len(result.level) :]
        lines += rows
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return text on one line, without characters that would move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, width: int) -> str:
    """Cut text to a number of columns; 0 is no limit."""
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def _wrap(text: str, start: str, indent: str, width: int) -> str:
    """Begin a line with `start` and continue it after `indent`; long words stay whole."""
    return textwrap.fill(
        printable(text),
        width=width or sys.maxsize,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
