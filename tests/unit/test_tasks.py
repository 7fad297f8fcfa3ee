"""What `invoke` shows of itself: a menu of one line a task, and help for every option."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from invoke.parser.context import ParserContext

import tasks
from scripts.host.config.load import ROOT
from tests.support.ci import contexts

NAMES = sorted(tasks.namespace.task_names)


def invoke(*words: str) -> str:
    """What invoke prints where there is no terminal: folded at 80 columns."""
    command = [sys.executable, "-m", "invoke", *words]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout


def test_the_menu_has_one_line_for_each_task() -> None:
    heading, *lines = [line for line in invoke("--list").splitlines() if line]
    assert heading == "Available tasks:"
    assert sorted(line.split()[0] for line in lines) == NAMES
    assert all(re.fullmatch(r"  [a-z.]+ +[A-Z].+\.", line) for line in lines)


@pytest.mark.parametrize("context", contexts(), ids=lambda context: context.name)
def test_every_option_of_a_task_is_explained(context: ParserContext) -> None:
    assert all(argument.help for argument in context.args.values())


def test_a_reader_that_leaves_early_is_no_error() -> None:
    words = [sys.executable, "-m", "invoke", "config"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait(30) == 141
