"""Runs every linter, side by side, and puts what they say before a person."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.lint.files import sorted_files
from scripts.host.lint.problems import Problem, Verdict
from scripts.host.lint.tools import TOOLS


def lint(root: Path, *, only: Sequence[str] = (), fix: bool = False) -> tuple[Verdict, ...]:
    """Ask every linter about the checkout.

    Args:
        root: the checkout.
        only: names of the linters to ask; all of them when empty.
        fix: let those that can mend files do so first.

    Returns:
        One verdict a linter, in the table's order.

    Raises:
        UserError: there is no such linter, or it is not installed.
    """
    names = [tool.name for tool in TOOLS]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise UserError(f"there is no linter {unknown[0]}", hint=f"one of: {', '.join(names)}")
    chosen = [tool for tool in TOOLS if not only or tool.name in only]
    files = sorted_files(root)
    if fix:
        for tool in chosen:
            tool.mend(root, files)
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(lambda tool: tool.check(root, files), chosen))


def shown(verdicts: Sequence[Verdict]) -> str:
    """Problems grouped by linter, the clean ones in one line each."""
    return "\n".join(_block(verdict) for verdict in verdicts)


def judge(verdicts: Sequence[Verdict]) -> None:
    """Fail when anybody found anything.

    Raises:
        UserError: counting the problems.
    """
    counts = {verdict.tool: len(verdict.problems) for verdict in verdicts if verdict.problems}
    total = sum(counts.values())
    if total:
        raise UserError(
            f"{total} problem{'s' if total > 1 else ''}: "
            + ", ".join(f"{tool} {count}" for tool, count in counts.items()),
            hint="mend them; what a tool can mend itself: invoke lint --fix",
        )


def _block(verdict: Verdict) -> str:
    if not verdict.problems:
        return f"{verdict.tool}: {'nothing to lint' if verdict.files == 0 else 'clean'}"
    count = len(verdict.problems)
    heading = f"{verdict.tool}: {count} problem{'s' if count > 1 else ''}"
    return "\n".join([heading, *(f"  {_line(problem)}" for problem in verdict.problems)])


def _line(problem: Problem) -> str:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    return f"{place}: {problem.rule} {problem.message}"
