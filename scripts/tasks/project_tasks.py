"""Tasks of the checkout and its machine: config, pin, lint, doctor, clean, matrix."""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from invoke.context import Context

from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.host.console import note, say, table, terminal_width
from scripts.tasks import DEFAULT_VARIANT, Define, Variant, task

if TYPE_CHECKING:
    from scripts.host.build.inputs import BuildInputs
    from scripts.host.config.load import LoadedConfig


@task()
def config(
    _: Context,
    define: Define,
    variant: Variant = DEFAULT_VARIANT,
    schema: Annotated[bool, "write config.schema.json and the reference tables instead"] = False,
) -> None:
    """Print the merged config and where each value came from."""
    from scripts.host.config import describe
    from scripts.host.config.load import ROOT, load

    if schema:
        say(f"wrote {describe.write_schema().name}")
        # A program of its own: tasks may not import the generator, which imports the container.
        subprocess.run([sys.executable, "-m", "scripts.reference"], cwd=ROOT, check=True)
    else:
        say(describe.render_config(load(variant, define)))


@task()
def pin(
    _: Context,
    variant: Annotated[list[str], "pin only this variant (repeatable; default: all)"],
    define: Define,
    check: Annotated[bool, "write nothing; fail if the locks would change"] = False,
    python: Annotated[bool, "compile the hashed locks of Python packages instead"] = False,
    upgrade: Annotated[bool, "with --python: newest versions instead of those locked"] = False,
) -> None:
    """Lock what the network answers: digests, commits, sums."""
    from scripts.host.config.load import load_variants
    from scripts.host.config.lock import LOCK_NAME
    from scripts.host.pin.pin_network import pin_network
    from scripts.host.pin.pin_packages import pin_packages

    if upgrade and not python:
        raise UserError("only packages are upgraded", location="--upgrade", hint="add --python")
    variants = load_variants(variant, define)
    if python:
        again, changes = "invoke pin --python", pin_packages(variants, check=check, upgrade=upgrade)
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


@task(name="import", positional=["path"])
def import_(
    loaded: "LoadedConfig",
    path: Annotated[str, "folder of a WebUI, or a mounted volume with its models"],
    new_variant: Annotated[str, "write a variant of this name to config.yaml instead"] = "",
    dry_run: Annotated[bool, "show the change, write nothing"] = False,
    offline: Annotated[bool, "do not look for sources at the Hub and Civitai"] = False,
    allow_pickle: Annotated[bool, "import .ckpt and .pt, too, which run code when loaded"] = False,
    rehash: Annotated[bool, "read every file, also those that were hashed before"] = False,
) -> None:
    """Make config of an existing WebUI folder or volume.

    Its models, flags, settings and extensions go to config.local.yaml; the folder is only read.
    """
    from scripts.host.config.load import local_path
    from scripts.host.importer.config_write import change_local, change_shared
    from scripts.host.importer.import_install import ImportOptions, plan_import, render_plan
    from scripts.host.models.models_display import open_display

    with open_display() as display:
        plan = plan_import(
            local_path(path),
            loaded,
            ImportOptions(offline=offline, allow_pickle=allow_pickle, rehash=rehash),
            on_progress=display.labelled("models", {}),
            warn=display.warn,
        )
    say(render_plan(plan, terminal_width()))
    change = change_shared(plan, loaded, new_variant) if new_variant else change_local(plan, loaded)
    if not (diff := change.diff()):
        say("nothing changed")
        return
    say(f"\n{diff}")
    if dry_run:
        note(f"dry run: {change.path.name} was not written")
        return
    change.write()
    say(f"wrote {change.path.name}")


@task()
def lint(
    _: Context,
    only: Annotated[list[str], "run only this linter (repeatable): ruff, mypy, ..."],
    fix: Annotated[bool, "let the tools that can fix files do so first"] = False,
    format: Annotated[str, "text, or sarif of the tools that write it"] = "text",
    output: Annotated[str, "write the findings to this file, and show them as text"] = "",
) -> None:
    """Run every linter, show what they print, fail if one did."""
    from scripts.host.config.load import ROOT, local_path
    from scripts.host.lint.linters import format_text, lint, merge_sarif, refuse_failed

    if format not in ("text", "sarif"):
        raise UserError(f"there is no format {format}", hint="one of: text, sarif")
    results = lint(ROOT, only=only, fix=fix)
    text = format_text(results)
    report = merge_sarif(ROOT, only=only) if format == "sarif" else text
    if output:
        local_path(output).write_text(f"{report}\n", encoding="utf-8")
        say(text)
        note(f"wrote {output}")
    else:
        say(report)
        if format == "sarif":
            note(text)
    refuse_failed(results)


@task()
def clean(
    loaded: "LoadedConfig",
    all: Annotated[bool, "also killed sessions' containers, caches and test images"] = False,
    dry_run: Annotated[bool, "only show what would go"] = False,
) -> None:
    """Remove reports, staged contexts and partial downloads.

    Run no build meanwhile.
    """
    from scripts.host.clean import find_leftovers, remove

    found = find_leftovers(loaded.root, loaded.store, everything=all)
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


@task()
def matrix(
    _: Context,
    only: Annotated[str, "print one of its lists: python, variants, cpu, gpu, runner, ..."] = "",
) -> None:
    """Print what CI has to run, as one line of JSON."""
    from scripts.host.matrix import matrix

    found = asdict(matrix())
    if only and only not in found:
        raise UserError(f"the matrix has no {only}", hint=f"one of: {', '.join(found)}")
    say(json.dumps(found[only] if only else found))


@task()
def doctor(
    inputs: "BuildInputs",
    json: Annotated[bool, "print the results as JSON"] = False,
) -> None:
    """Report what this machine lacks to build, with hints.

    Engine, disk, store, locks, every outside source, GPU.
    """
    from scripts.common.checks.check import format_results
    from scripts.host.doctor.doctor_checks import as_json, refuse_failures, run_checks

    results = run_checks(inputs)
    say(as_json(results) if json else format_results(results, terminal_width()))
    refuse_failures(results)
