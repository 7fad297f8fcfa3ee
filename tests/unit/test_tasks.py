"""`invoke --list` has one line per task, and every option has help."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from invoke.parser.context import ParserContext

import tasks
from scripts.host.config.load import ROOT
from tests.support.ci import contexts
from tests.support.running import invoke

NAMES = sorted(tasks.namespace.task_names)


def test_the_list_has_one_line_per_task() -> None:
    heading, *lines = [line for line in invoke("--list").stdout.splitlines() if line]
    assert heading == "Available tasks:"
    assert sorted(line.split()[0] for line in lines) == NAMES
    assert all(re.fullmatch(r"  [a-z.]+(?: \([a-z]+\))? +[A-Z].+\.", line) for line in lines)


@pytest.mark.parametrize("context", contexts(), ids=lambda context: context.name)
def test_every_option_has_help(context: ParserContext) -> None:
    assert all(argument.help for argument in context.args.values())


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "invoke", "config"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait(30) == 141
