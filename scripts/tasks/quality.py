"""`invoke lint`, `doctor`, `clean` and `matrix`: what keeps the work and its machine in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["only"],
    help={
        "only": "run this linter and no other (repeatable): ruff, mypy, hadolint, ...",
        "fix": "let the tools that can fix files do so first",
        "format": "text, or sarif for code scanning: the findings of the tools that write it",
        "output": "write the findings to this file too; the terminal then shows them as text",
    },
)
def lint(
    _: Context, only: list[str], fix: bool = False, format: str = "text", output: str = ""
) -> None:
    """Run every linter, show all they print, fail if one fails."""
    from pathlib import Path

    from scripts.common.diagnostics.error import UserError
    from scripts.host.config.load import ROOT
    from scripts.host.console import note, say
    from scripts.host.lint.run_linters import format_text, lint, merge_sarif, refuse_failed

    if format not in ("text", "sarif"):
        raise UserError(f"there is no format {format}", hint="one of: text, sarif")
    results = lint(ROOT, only=only, fix=fix)
    text = format_text(results)
    report = merge_sarif(ROOT, only=only) if format == "sarif" else text
    if output:
        Path(output).write_text(f"{report}\n", encoding="utf-8")
        say(text)
        note(f"wrote {output}")
    else:
        say(report)
        if format == "sarif":
            note(text)
    refuse_failed(results)


@task(
    iterable=["define"],
    help={
        **CONFIG_HELP,
        "all": "also containers of killed sessions, caches of tools, and the tests' images",
        "dry_run": "only show what would go",
    },
)
def clean(
    _: Context,
    define: list[str],
    variant: str = "cuda128",
    all: bool = False,
    dry_run: bool = False,
) -> None:
    """Remove reports, staged contexts and partial downloads.

    Run no build meanwhile.
    """
    from scripts.host.clean import leftovers, remove
    from scripts.host.config.load import load
    from scripts.host.console import say, size, table

    found = leftovers(load(variant, define), everything=all)
    if not found:
        say("nothing to clean")
        return
    rows = [(each.kind, each.name, size(each.size)) for each in found]
    say(table(("what", "which", "size"), rows, right=(2,)))
    total = size(sum(each.size for each in found))
    if dry_run:
        say(f"would free {total}")
        return
    remove(found)
    say(f"freed {total}")


@task(help={"only": "print one of its lists: python, variants, cpu, gpu, runner, ..."})
def matrix(_: Context, only: str = "") -> None:
    """Print what CI has to run, as one line of JSON."""
    import json
    from dataclasses import asdict

    from scripts.common.diagnostics.error import UserError
    from scripts.host.console import say
    from scripts.host.matrix import matrix

    found = asdict(matrix())
    if only and only not in found:
        raise UserError(f"the matrix has no {only}", hint=f"one of: {', '.join(found)}")
    say(json.dumps(found[only] if only else found))


@task(iterable=["define"], help={**CONFIG_HELP, "json": "print the verdicts as JSON"})
def doctor(_: Context, define: list[str], variant: str = "cuda128", json: bool = False) -> None:
    """Say what this machine lacks to build, and the hint.

    Engine, disk, store, locks, every outside source, GPU.
    """
    from scripts.common.checks.check_result import format_results
    from scripts.host.config.load import load
    from scripts.host.console import say, terminal_width
    from scripts.host.doctor.doctor_checks import as_json, refuse_failures, run_checks
    from scripts.host.doctor.gather import gather

    results = run_checks(gather(load(variant, define)))
    say(as_json(results) if json else format_results(results, terminal_width()))
    refuse_failures(results)
