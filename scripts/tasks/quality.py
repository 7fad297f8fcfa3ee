"""`invoke lint`, `doctor`, `clean` and `matrix`: what keeps the work and its machine in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["only"],
    help={
        "only": "run this linter and no other (repeatable): ruff, mypy, hadolint, ...",
        "fix": "let the tools that can mend files do so first",
        "format": "text or sarif",
        "output": "write the findings to this file instead of printing them",
    },
)
def lint(
    _: Context, only: list[str], fix: bool = False, format: str = "text", output: str = ""
) -> None:
    """Lint everything, show every finding, then fail if there is one."""
    from pathlib import Path

    from scripts.common.errors import Failure
    from scripts.host.config.load import ROOT
    from scripts.host.console import note, say
    from scripts.host.lint.lint import judge, lint, shown
    from scripts.host.lint.sarif import sarif

    renderers = {"text": shown, "sarif": sarif}
    if format not in renderers:
        raise Failure(f"there is no format {format}", cure="one of: text, sarif")
    verdicts = lint(ROOT, only=only, fix=fix)
    text = renderers[format](verdicts).rstrip("\n")
    if output:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
        note(f"wrote {output}")
    else:
        say(text)
    judge(verdicts)
