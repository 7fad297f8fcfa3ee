"""Tasks of the checkout and its machine: config, pin, lint, doctor, clean, matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import DEFAULT_VARIANT, DEFINE_HELP, VARIANT_HELP, config_task, task

if TYPE_CHECKING:
    from invoke.context import Context

    from scripts.host.config.load import LoadedConfig


@task(
    iterable=["define"],
    help={
        "variant": VARIANT_HELP,
        "define": DEFINE_HELP,
        "schema": "write config.schema.json and the reference tables instead",
    },
)
def config(
    _: Context, define: list[str], variant: str = DEFAULT_VARIANT, schema: bool = False
) -> None:
    """Print the merged config and where each value came from."""
    import subprocess
    import sys

    from scripts.host.config import describe
    from scripts.host.config.load import ROOT, load
    from scripts.host.console import say

    if schema:
        say(f"wrote {describe.write_schema().name}")
        # A program of its own: tasks may not import the generator, which imports the container.
        subprocess.run([sys.executable, "-m", "scripts.reference"], cwd=ROOT, check=True)
    else:
        say(describe.render_config(load(variant, define)))


@task(
    iterable=["variant", "define"],
    help={
        "variant": "only this variant, keeping the rest of the lock (repeatable; default: all)",
        "define": DEFINE_HELP,
        "check": "write nothing; fail when the locks are not what this would write",
        "python": "compile the hashed locks of Python packages instead",
        "upgrade": "with --python: newest versions instead of keeping those locked",
    },
)
def pin(
    _: Context,
    variant: list[str],
    define: list[str],
    check: bool = False,
    python: bool = False,
    upgrade: bool = False,
) -> None:
    """Lock what the network answers: digests, commits, sums."""
    from scripts.common.diagnostics.error import UserError
    from scripts.host.config.load import load_variants
    from scripts.host.config.lock import LOCK_NAME
    from scripts.host.console import say
    from scripts.host.pin.network import pin_network
    from scripts.host.pin.python_packages import pin_python

    if upgrade and not python:
        raise UserError("only packages are upgraded", location="--upgrade", hint="add --python")
    variants = load_variants(variant, define)
    if python:
        again, changes = "invoke pin --python", pin_python(variants, check=check, upgrade=upgrade)
    else:
        again, changes = "invoke pin", pin_network(variants, check=check, partly=bool(variant))
    for line in changes:
        say(line)
    if check and changes:
        raise UserError("the locks are not what they would be now", hint=f"look, then: {again}")
    if not changes:
        say("nothing changed")
    elif not python:
        say(f"wrote {LOCK_NAME}")


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


@config_task(
    help={
        "all": "also containers of killed sessions, caches of tools, and the tests' images",
        "dry_run": "only show what would go",
    },
)
def clean(loaded: LoadedConfig, all: bool = False, dry_run: bool = False) -> None:
    """Remove reports, staged contexts and partial downloads.

    Run no build meanwhile.
    """
    from scripts.host.clean import leftovers, remove
    from scripts.host.console import say, size, table

    found = leftovers(loaded, everything=all)
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


@config_task(help={"json": "print the verdicts as JSON"})
def doctor(loaded: LoadedConfig, json: bool = False) -> None:
    """Report what this machine lacks to build, with hints.

    Engine, disk, store, locks, every outside source, GPU.
    """
    from scripts.common.checks.check_result import format_results
    from scripts.host.console import say, terminal_width
    from scripts.host.doctor.doctor_checks import as_json, refuse_failures, run_checks
    from scripts.host.doctor.gather import gather

    results = run_checks(gather(loaded))
    say(as_json(results) if json else format_results(results, terminal_width()))
    refuse_failures(results)
