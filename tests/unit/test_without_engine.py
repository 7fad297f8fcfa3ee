"""Where there is no Docker engine, the engine tests say so in one line, and fail in CI."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts.host.config.load import ROOT


def engine_tests(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/engine", "-rsE", "--tb=no", "--maxfail=2"],
        cwd=ROOT,
        env={**inherited, "DOCKER_HOST": "unix:///nowhere.sock", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_they_are_skipped_with_one_line_that_names_the_cure() -> None:
    answer = engine_tests()
    assert answer.returncode == 0, answer.stdout
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("SKIPPED")]
    assert "need a Docker engine" in line
    assert "scripts/bootstrap" in line
    assert " passed" not in answer.stdout


def test_in_ci_that_is_a_failure() -> None:
    answer = engine_tests(CI="true")
    assert answer.returncode == 1
    assert "no Docker engine answers" in answer.stdout
