"""Run linters over a checkout: the commands that check and fix its files, and what they print."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.run import last_line, run_program
from scripts.host.config.describe import SCHEMA_NAME, schema_text, write_schema
from scripts.host.config.load import DEFAULT_VARIANT, load
from scripts.host.lint.lint_files import FileKind, LintFiles, find_files

_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class LintResult:
    """Outcome and output of one linter.

    Args:
        linter: its name.
        passed: whether it found nothing.
        output: as it printed it.
        ran: False where there was nothing to lint.
    """

    linter: str
    passed: bool
    output: str = ""
    ran: bool = True


@dataclass(frozen=True)
class Linter:
    """A linter: a program, or what a subclass does instead.

    Args:
        name: in messages and for `--only`.
        command: checks, and exits with another status than 0 when it finds something.
        kind: of the files it gets as arguments; None where it finds its own.
        sarif: options with which `command` prints SARIF; empty where it cannot.
        fix_command: fixes what can be fixed; empty where it cannot.
    """

    name: str
    command: tuple[str, ...] = ()
    kind: FileKind | None = None
    sarif: tuple[str, ...] = ()
    fix_command: tuple[str, ...] = ()

    def run(
        self, root: Path, files: LintFiles, command: tuple[str, ...]
    ) -> subprocess.CompletedProcess[str] | None:
        """Run a command over the linter's files; None where there are none."""
        paths = files[self.kind] if self.kind else ()
        return run_tool(root, *command, *paths) if paths or not self.kind else None

    def check(self, root: Path, files: LintFiles) -> LintResult:
        """Check the checkout."""
        done = self.run(root, files, self.command)
        if done is None:
            return LintResult(self.name, passed=True, ran=False)
        return LintResult(self.name, done.returncode == 0, done.stdout + done.stderr)

    def fix(self, root: Path, files: LintFiles) -> None:
        """Fix what can be fixed; `check` reports the rest."""
        if self.fix_command:
            self.run(root, files, self.fix_command)


class ShellCheck(Linter):
    """ShellCheck, which fixes by printing a patch."""

    def fix(self, root: Path, files: LintFiles) -> None:
        """Apply the patch with git."""
        done = self.run(root, files, self.fix_command)
        if done and done.stdout.strip():
            run_tool(root, "git", "apply", "-", input=done.stdout)


class ConfigLint(Linter):
    """Loads every variant of `config.yaml` with `config.lock.yaml`."""

    def check(self, root: Path, files: LintFiles) -> LintResult:  # noqa: ARG002 - as every linter
        """Report each distinct error."""
        errors: list[str] = []
        for variant in _variants(root):
            try:
                load(variant, root=root)
            except UserError as error:
                errors.append(str(error))
        return LintResult(self.name, not errors, "\n".join(dict.fromkeys(errors)))


class SchemaLint(Linter):
    """Compares `config.schema.json` with the schema in the code."""

    def check(self, root: Path, files: LintFiles) -> LintResult:  # noqa: ARG002 - as every linter
        """Report a file that is missing or stale."""
        path = root / SCHEMA_NAME
        passed = path.is_file() and path.read_text(encoding="utf-8") == schema_text()
        output = "" if passed else f"{SCHEMA_NAME} is stale - run: invoke config --schema"
        return LintResult(self.name, passed, output)

    def fix(self, root: Path, files: LintFiles) -> None:  # noqa: ARG002 - as every linter
        """Write the schema."""
        write_schema(root)


def run_tool(root: Path, *argv: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment, or else one found on PATH, in the checkout.

    The environment's own programs come first on PATH for the program as well: actionlint runs
    shellcheck.

    Raises:
        UserError: the program is not installed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    hint = "install the tools: scripts/bootstrap invoke lint"
    return run_program(argv, cwd=root, env={"PATH": path}, input=input, missing_hint=hint)


def _variants(root: Path) -> list[str]:
    """Return the variants' names, or the default one's: loading it shows what is wrong."""
    try:
        tree = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
        return list(tree["variants"]) or [DEFAULT_VARIANT]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return [DEFAULT_VARIANT]


LINTERS: Final = (
    Linter(
        "ruff",
        ("ruff", "check", "."),
        sarif=("--output-format", "sarif"),
        fix_command=("ruff", "check", "--fix", "--quiet", "."),
    ),
    Linter(
        "ruff-format",
        ("ruff", "format", "--check", "."),
        sarif=("--output-format", "sarif"),
        fix_command=("ruff", "format", "--quiet", "."),
    ),
    Linter("mypy", ("mypy",)),
    Linter("imports", ("lint-imports", "--no-logo", "--no-cache")),
    Linter(
        "hadolint",
        ("hadolint", "--no-color", "--failure-threshold", "style"),
        kind="dockerfiles",
        sarif=("--format", "sarif"),
    ),
    ShellCheck(
        "shellcheck",
        ("shellcheck", "--color=never"),
        kind="shell",
        fix_command=("shellcheck", "--format=diff"),
    ),
    Linter(
        "workflows",
        ("check-jsonschema", "-v", "--color=never", "--builtin-schema", "vendor.github-workflows"),
        kind="workflows",
    ),
    Linter("actionlint", ("actionlint", "-no-color"), kind="workflows"),
    Linter(
        "zizmor",
        ("zizmor", "--offline", "--no-progress", "--quiet"),
        kind="workflows",
        sarif=("--format", "sarif"),
    ),
    ConfigLint("config"),
    SchemaLint("schema"),
)


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
        for run in log["runs"]:
            runs.append({**run, "automationDetails": {"id": f"invoke-lint/{linter.name}/"}})
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": runs}, indent=2)


def format_text(results: Sequence[LintResult]) -> str:
    """Format one line a linter, and below it what a failed one printed."""
    lines = []
    for result in results:
        outcome = "passed" if result.passed else "failed"
        lines.append(f"{result.linter}: {outcome if result.ran else 'nothing to lint'}")
        if not result.passed:
            lines.append(result.output.rstrip() or "(no output)")
    return "\n".join(lines)


def refuse_failed(results: Sequence[LintResult]) -> None:
    """Raise an error when a linter failed.

    Raises:
        UserError: names those that failed.
    """
    failed = [result.linter for result in results if not result.passed]
    if failed:
        hint = "fix what they show; some of it with: invoke lint --fix"
        raise UserError(f"linters failed: {', '.join(failed)}", hint=hint)


def _choose(only: Sequence[str]) -> list[Linter]:
    names = [linter.name for linter in LINTERS]
    if unknown := sorted(set(only) - set(names)):
        raise UserError(f"there is no linter {unknown[0]}", hint=f"one of: {', '.join(names)}")
    return [linter for linter in LINTERS if not only or linter.name in only]
