"""Puts the doctor's verdicts before a person, or a program."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from scripts.common.diagnostics.error import UserError
from scripts.host.doctor.doctor_checks import Verdict


def shown(verdicts: Sequence[Verdict], columns: int = 0) -> str:
    """One line a verdict, and below it the hint where there is a hint.

    Args:
        verdicts: the doctor's.
        columns: width to fold lines at; 0 folds none.
    """
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        start = f"{verdict.level:<4}  {verdict.check:<{width}}  "
        lines.append(_folded(start, verdict.evidence, columns))
        if verdict.code:
            hint = f"{verdict.hint} [{verdict.code}]"
            lines.append(_folded(" " * len(start), hint, columns))
    return "\n".join(lines)


def _folded(start: str, text: str, columns: int) -> str:
    """A line whose text goes on below itself; a word longer than that, an address, stays whole."""
    return textwrap.fill(
        text,
        width=columns or sys.maxsize,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def as_json(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a JSON list of objects: check, level, evidence, code, hint."""
    return json.dumps([{**asdict(each), "cure": each.hint} for each in verdicts], indent=2)


def refuse_failures(verdicts: Sequence[Verdict]) -> None:
    """Fail when a check did.

    Raises:
        UserError: naming them.
    """
    failed = [verdict.check for verdict in verdicts if verdict.level == "fail"]
    if failed:
        raise UserError(f"not fit: {', '.join(failed)}", hint="see the lines above")
