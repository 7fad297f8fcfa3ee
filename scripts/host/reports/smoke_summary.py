"""The smoke report for a person at a terminal: one screen, failures explained below the table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from scripts.common.checks.report import Check, SmokeReport
from scripts.common.diagnostics.table import diagnostics
from scripts.host.console import painted

_WORDS: Final = {"passed": "ok", "failed": "FAIL"}
_COLOURS: Final = {"passed": "32", "failed": "31"}


def summary(report: SmokeReport, width: int = 80) -> str:
    """What was tested, a line for each check that ran, failures with their hints, the verdict.

    Args:
        report: what is told.
        width: columns of the terminal; longer evidence is cut, the report has all of it.
    """
    blocks = [
        *_subject(report, width),
        "",
        *_table([check for check in report.checks if check.outcome != "skipped"], width),
        *_skipped(report.checks, width),
    ]
    for check in report.checks:
        if check.outcome == "failed":
            blocks += ["", *_failure(check, width)]
    return "\n".join([*blocks, "", verdict(report)])


def verdict(report: SmokeReport) -> str:
    """One sentence: passed or not, and out of how many."""
    ran = report.count("passed") + report.count("failed")
    if report.passed:
        return f"{_painted('passed', '32')}: {ran} checks in {report.seconds:.0f} s"
    if failed := report.count("failed"):
        return f"{_painted('FAILED', '31')}: {failed} of {ran} checks, {report.seconds:.0f} s"
    why = "no check ran" if report.whole else "only a part of the checks ran"
    return f"{_painted('NOT PROVEN', '33')}: {why}"


def _subject(report: SmokeReport, width: int) -> Iterator[str]:
    named = f"{report.image} ({report.image_id[:19]})" if report.image_id else report.image
    yield _cut(f"{report.variant}  {named}", width)
    for gpu in report.gpus:
        yield _cut(str(gpu), width)
    if report.versions:
        told = ", ".join(f"{name} {value}" for name, value in report.versions.items())
        yield _cut(told, width)


def _table(checks: Sequence[Check], width: int) -> Iterator[str]:
    """Outcome, seconds, name, evidence; aligned, no line longer than the terminal."""
    longest = max((len(check.name) for check in checks), default=0)
    for check in checks:
        outcome = _painted(_WORDS[check.outcome].ljust(4), _COLOURS[check.outcome])
        line = f"{check.seconds:6.1f} s  {check.name.ljust(longest)}  {_one_line(check.evidence)}"
        yield f"{outcome}{_cut(line.rstrip(), width - 4)}"


def _skipped(checks: Sequence[Check], width: int) -> Iterator[str]:
    """One line for each reason, not one for each check."""
    reasons = Counter(check.evidence for check in checks if check.outcome == "skipped")
    for reason, count in reasons.items():
        number = "1 check" if count == 1 else f"{count} checks"
        yield _cut(f"skip  {number:9}  {_one_line(reason)}", width)


def _failure(check: Check, width: int) -> Iterator[str]:
    """What failed, what that means, what to do, and the lines of the log that show it."""
    code = f" [{check.code}]" if check.code else ""
    yield f"{_painted('FAIL', '31')}  {_cut(f'{check.name}{code}', width - 6)}"
    if finding := diagnostics().get(check.code):
        yield f"  {finding.message}"
        yield f"  hint: {finding.hint}"
    yield _cut(f"  seen: {_one_line(check.evidence)}", 4 * width)
    for line in check.excerpt.splitlines():
        yield _cut(f"  | {line}", width)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, width: int) -> str:
    """At most as long as the terminal is wide, and nothing in it that would move the cursor."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _painted(word: str, colour: str) -> str:
    return painted(word, colour, sys.stdout)
