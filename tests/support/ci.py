"""Run CI steps with a `scripts/bootstrap` that records its arguments, or the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from invoke.parser import Parser
from invoke.parser.context import ParserContext
from nox import registry

import noxfile
import tasks
from scripts.host.config.load import ROOT

_NOTES = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >>notes; done
echo >>notes
if [ -e "answer-$2" ]; then cat "answer-$2"; fi
"""


def stage(folder: Path, **answers: str) -> Path:
    """Make a folder whose bootstrap records its arguments and prints a given answer per task."""
    (folder / "scripts").mkdir()
    bootstrap = folder / "scripts" / "bootstrap"
    bootstrap.write_text(_NOTES)
    bootstrap.chmod(0o755)
    for task, answer in answers.items():
        (folder / f"answer-{task}").write_text(answer)
    return folder


def checkout(folder: Path) -> Path:
    """Link this checkout to another path, with the environment that runs the tests as its .venv."""
    for name in ("scripts", "requirements", "tasks.py", "config.yaml", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    with (folder / "requirements/dev.txt").open("rb") as lock:
        stamp = subprocess.run(["cksum"], stdin=lock, capture_output=True, check=True).stdout
    (folder / ".venv" / ".lock-stamp").write_bytes(stamp)
    return folder


def shell(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a step as GitHub does, with `bash -e`; return its standard output."""
    answer = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def noted(folder: Path) -> list[list[str]]:
    """Return the arguments of each call of a stage's bootstrap, in order."""
    path = folder / "notes"
    text = path.read_text() if path.exists() else ""
    return [call.splitlines() for call in text.split("\n\n") if call]


@cache
def contexts() -> list[ParserContext]:
    """Return invoke's parser contexts; cached, because making them takes the help out of tasks."""
    return list(tasks.namespace.to_contexts())


def sessions() -> set[str]:
    """Return the names of all nox sessions, default or not."""
    assert noxfile.PYTHONS  # imported, it has registered them
    return set(registry.get())


def check(command: list[str]) -> None:
    """Parse a command against the real tasks, sessions and options.

    Raises:
        AssertionError: nox has no such session, or the command is neither nox nor invoke.
        ParseError: invoke has no such task or option.
        CalledProcessError: the smoke tests have no such option.
    """
    program, *rest = command
    if program == "invoke":
        Parser(contexts=contexts()).parse_argv(rest)
        return
    assert program == "nox", command
    at = rest.index("--") if "--" in rest else len(rest)
    named = [word for word in rest[:at] if word not in ("-s", "--session")]
    assert set(named) <= sessions(), command
    if options := rest[at + 1 :]:
        _collect_smoke_tests(*options)


@cache
def _collect_smoke_tests(*options: str) -> None:
    command = [sys.executable, "-m", *noxfile.SMOKE, "--collect-only", *options]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
