"""A secret that RunPod did not put in ends the worker with one line that names it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scripts.common.secrets import refuse_unresolved
from scripts.host.config.load import ROOT
from tests.support.errors import user_error


@pytest.mark.parametrize("text", ["{{ RUNPOD_SECRET_login }}", "me:{{RUNPOD_SECRET_login}}"])
def test_a_placeholder_that_was_not_replaced_is_refused_by_name(text: str) -> None:
    error = user_error(refuse_unresolved, {"PATH": "/bin", "API_AUTH": text})
    assert error.code == "secret-unresolved"
    assert error.message == "API_AUTH holds no secret, but the name of one: login"


def test_other_braces_are_no_secret() -> None:
    refuse_unresolved({"A": "{{ }}", "WEBUI_SETTINGS": '{"a": {"b": 1}}', "B": "RUNPOD_SECRET_x"})


def test_a_worker_ends_before_it_starts_anything() -> None:
    environ = {"PATH": os.environ["PATH"], "HF_TOKEN": "{{ RUNPOD_SECRET_mine }}"}
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.container"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    [line] = (ended.stdout + ended.stderr).splitlines()
    assert "[secret-unresolved]" in line
    assert "mine" in line
