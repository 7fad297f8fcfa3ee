"""Tables of results, and the two lines of an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.console import print_error, table

HEADER = ("model", "size", "source", "here")
ROWS = [("a-model-with-a-name", "2.13 GB", "https://example.org/a/long/way/to/it", "yes")]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            0,
            [
                "model                   size  source                                here",
                "a-model-with-a-name  2.13 GB  https://example.org/a/long/way/to/it  yes",
            ],
        ),
        (
            50,
            [
                "model                   size  source          here",
                "a-model-with-a-name  2.13 GB  https://examp…  yes",
            ],
        ),
        (
            20,
            [
                "model                   size  source    here",
                "a-model-with-a-name  2.13 GB  https:/…  yes",
            ],
        ),
    ],
    ids=["unlimited", "cut to the width", "never below eight columns"],
)
def test_table_cuts_long_cells_but_no_name_or_number(width: int, expected: list[str]) -> None:
    assert table(HEADER, ROWS, right=(1,), width=width).splitlines() == expected


def test_table_shows_markup_as_text() -> None:
    assert table(("a",), [("[bold]x[/]",)]).splitlines() == ["a", "[bold]x[/]"]


def test_secrets_are_never_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_EXAMPLE_ORG", "hidden-value")
    print_error(UserError("refused hidden-value", location="https://example.org"))
    assert capsys.readouterr().err == "error: refused ***: https://example.org\n"


def test_an_error_is_its_message_and_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UserError("no space", location="/var", hint="free some", code="disk-full"))
    print_error(UserError("interrupted by x"))
    assert capsys.readouterr().err.splitlines() == [
        "error: no space: /var",
        "hint: free some [disk-full]",
        "error: interrupted by x",
    ]


def test_a_thread_that_prints_does_not_crash_the_end_of_the_interpreter() -> None:
    code = """
import threading, time
from scripts.host.console import say

def print_for_ever():
    while True:
        say("x" * 1000)

threading.Thread(target=print_for_ever, daemon=True).start()
time.sleep(0.05)
"""
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
