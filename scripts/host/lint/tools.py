"""The table of linters: what each is shown, how it is asked, how it mends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.host.lint import own, parse
from scripts.host.lint.files import Files
from scripts.host.lint.problems import Problem, Verdict

_Shown = Callable[[Files], tuple[str, ...]]
_NOT_RUN: Final = "not-run"


@dataclass(frozen=True)
class Tool:
    """A linter of somebody else's.

    Args:
        name: in messages and for `--only`.
        words: the command that prints JSON.
        parse: reads it.
        shown: the files it gets as arguments; without, it finds its own.
        fix: the command that mends what can be mended.
    """

    name: str
    words: tuple[str, ...]
    parse: parse.Parse
    shown: _Shown | None = None
    fix: tuple[str, ...] = ()

    def check(self, root: Path, files: Files) -> Verdict:
        """Run it over the checkout."""
        names = self.shown(files) if self.shown else ()
        if self.shown and not names:
            return Verdict(self.name, (), 0)
        done = run(root, *self.words, *names)
        try:
            problems = self.parse(done.stdout, root)
        except (ValueError, KeyError, TypeError):
            problems = []
        if done.returncode != 0 and not problems:
            words = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            problems = [Problem(".", 1, 1, _NOT_RUN, f"{self.words[0]} failed: {words[-1]}")]
        return Verdict(self.name, tuple(sorted(problems)), len(names) if self.shown else None)

    def mend(self, root: Path, files: Files) -> None:
        """Let it change files; what it cannot mend, `check` will say."""
        names = self.shown(files) if self.shown else ()
        if self.fix and (names or not self.shown):
            run(root, *self.fix, *names)


@dataclass(frozen=True)
class OwnCheck:
    """A check that is ours.

    Args:
        name: in messages and for `--only`.
        body: finds the problems.
        body_fix: mends them.
    """

    name: str
    body: Callable[[Path], list[Problem]]
    body_fix: Callable[[Path], None] | None = None

    def check(self, root: Path, _: Files) -> Verdict:
        """Run it over the checkout."""
        return Verdict(self.name, tuple(sorted(self.body(root))))

    def mend(self, root: Path, _: Files) -> None:
        """Mend what it can."""
        if self.body_fix:
            self.body_fix(root)


@dataclass(frozen=True)
class ShellCheck(Tool):
    """Shellcheck mends by printing a patch, which git applies."""

    def mend(self, root: Path, files: Files) -> None:
        """Apply the patch, if there is one."""
        patch = run(root, "shellcheck", "--format", "diff", *files.shell).stdout
        if patch.strip():
            run(root, "git", "apply", "-", feed=patch)


def run(root: Path, *words: str, feed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment, or else one found on PATH, in `root`.

    The environment's own tools come first on PATH for the tool as well: actionlint asks shellcheck.

    Raises:
        UserError: there is no such tool.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        return subprocess.run(
            words,
            cwd=root,
            env={**os.environ, "PATH": path},
            input=feed,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError(
            f"there is no {words[0]}", hint="install the tools: scripts/bootstrap invoke lint"
        ) from None


TOOLS: Final[tuple[Tool | OwnCheck, ...]] = (
    Tool(
        "ruff",
        ("ruff", "check", "--output-format", "json", "."),
        parse.ruff,
        fix=("ruff", "check", "--fix", "--quiet", "."),
    ),
    Tool(
        "ruff-format",
        ("ruff", "format", "--check", "--output-format", "json", "."),
        parse.ruff,
        fix=("ruff", "format", "--quiet", "."),
    ),
    Tool("mypy", ("mypy", "--output", "json"), parse.mypy),
    Tool(
        "hadolint",
        ("hadolint", "--format", "json"),
        parse.hadolint,
        shown=lambda files: files.dockerfiles,
    ),
    ShellCheck(
        "shellcheck",
        ("shellcheck", "--format", "json1"),
        parse.shellcheck,
        shown=lambda files: files.shell,
    ),
    Tool(
        "workflows",
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", "-o", "json"),
        parse.workflows,
        shown=lambda files: files.workflows,
    ),
    Tool(
        "actionlint",
        ("actionlint", "-no-color", "-format", "{{json .}}"),
        parse.actionlint,
        shown=lambda files: files.workflows,
    ),
    Tool(
        "zizmor",
        ("zizmor", "--offline", "--no-progress", "--quiet", "--format", "json"),
        parse.zizmor,
        shown=lambda files: files.workflows,
    ),
    OwnCheck("config", own.check_config),
    OwnCheck("schema", own.check_schema, own.fix_schema),
)
