"""Without a Docker engine, the engine tests are skipped in one line, and fail in CI."""

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


def test_engine_tests_are_skipped_with_a_hint() -> None:
    answer = engine_tests()
    assert answer.returncode == 0, answer.stdout
    [line] = [line for line in answer.stdout.splitlines() if "need a Docker engine" in line]
    assert line.startswith("SKIPPED")
    assert "scripts/bootstrap" in line
    assert " passed" not in answer.stdout


def test_engine_tests_fail_in_ci() -> None:
    answer = engine_tests(CI="true")
    assert answer.returncode == 1
    assert "engine tests need a Docker engine" in answer.stdout
