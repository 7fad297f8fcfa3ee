"""Puts the doctor's verdicts before a person, or a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from scripts.common.errors import Failure
from scripts.host.doctor.checks import Verdict


def shown(verdicts: Sequence[Verdict]) -> str:
    """One line a verdict, and below it the cure where there is something to cure."""
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.level:<4}  {verdict.check:<{width}}  {verdict.evidence}")
        if verdict.code:
            lines.append(f"{'':<{width + 8}}{verdict.cure} [{verdict.code}]")
    return "\n".join(lines)


def as_json(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a JSON list of objects: check, level, evidence, code, cure."""
    return json.dumps([{**asdict(each), "cure": each.cure} for each in verdicts], indent=2)


def refuse_failures(verdicts: Sequence[Verdict]) -> None:
    """Fail when a check did.

    Raises:
        Failure: naming them.
    """
    failed = [verdict.check for verdict in verdicts if verdict.level == "fail"]
    if failed:
        raise Failure(f"not fit: {', '.join(failed)}", cure="see the lines above")
