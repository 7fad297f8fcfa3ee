"""Run the linters, and report what they print as text or SARIF."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.run import last_line
from scripts.host.lint.linters import LINTERS, Linter, LintResult, find_files

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def lint(root: Path, *, only: Sequence[str] = (), fix: bool = False) -> tuple[LintResult, ...]:
    """Run linters over a checkout.

    Args:
        root: the checkout.
        only: names of the linters to run; all when empty.
        fix: let those that can fix files do so first.

    Returns:
        One result a linter, in the order of the table.

    Raises:
        UserError: a linter is unknown or not installed.
    """
    chosen = _choose(only)
    files = find_files(root)
    if fix:
        for linter in chosen:
            linter.fix(root, files)
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(lambda linter: linter.check(root, files), chosen))


def merge_sarif(root: Path, *, only: Sequence[str] = ()) -> str:
    """Run the linters that write SARIF 2.1.0, and merge their logs, with paths in the checkout.

    Each run gets an ID of its own, which code scanning asks for: two of them are ruff's. See
    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.

    Raises:
        UserError: a linter is unknown, not installed, or wrote no SARIF.
    """
    files = find_files(root)
    runs = []
    for linter in _choose(only):
        done = linter.sarif and linter.run(root, files, linter.command + linter.sarif)
        if not done:
            continue
        try:
            log = json.loads(done.stdout.replace(f"{root.resolve().as_uri()}/", ""))
        except ValueError:
            raise UserError(f"{linter.name} wrote no SARIF: {last_line(done)}") from None
        identity = {"automationDetails": {"id": f"invoke-lint/{linter.name}/"}}
        runs += [{**run, **identity} for run in log["runs"]]
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": runs}, indent=2)


def format_text(results: Sequence[LintResult]) -> str:
    """Format one line a linter, and below it what a failed one printed."""
    return "\n".join(_format_result(result) for result in results)


def refuse_failed(results: Sequence[LintResult]) -> None:
    """Raise an error when a linter failed.

    Raises:
        UserError: names those that failed.
    """
    failed = [result.linter for result in results if not result.passed]
    if failed:
        raise UserError(
            f"linters failed: {', '.join(failed)}",
            hint="fix what they show; some of it with: invoke lint --fix",
        )


def _choose(only: Sequence[str]) -> list[Linter]:
    names = [linter.name for linter in LINTERS]
    if unknown := sorted(set(only) - set(names)):
        raise UserError(f"there is no linter {unknown[0]}", hint=f"one of: {', '.join(names)}")
    return [linter for linter in LINTERS if not only or linter.name in only]


def _format_result(result: LintResult) -> str:
    if not result.ran:
        return f"{result.linter}: nothing to lint"
    if result.passed:
        return f"{result.linter}: passed"
    return f"{result.linter}: failed\n{result.output.rstrip() or '(no output)'}"
