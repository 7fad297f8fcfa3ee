"""The smoke command beside a small stand-in for the WebUI: its worker, commands and report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.checks.check import CommandError
from scripts.common.checks.smoke_report import SmokeBundle
from scripts.common.diagnostics.error import UserError
from scripts.container.smoke.local_worker import run_command, running_worker
from scripts.host.config.load import ROOT
from tests.support.worker import Worker, free_port


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker with the stand-in."""
    worker = Worker(tmp_path, WARMUP="64x64x1")
    worker.stop()
    return {**worker.env, "WEBUI_PORT": str(free_port()), "WORKER_DIR": str(tmp_path / "new")}


def smoke(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.container", "smoke", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_becomes_ready_and_stops(environ: dict[str, str]) -> None:
    with running_worker(environ) as worker:
        worker.wait_until_ready(60)
        assert "drawn" in worker.phases
        assert "event=ready" in worker.log
        worker.stop(20)
    assert worker.process.returncode is not None


def test_a_worker_that_ends_is_not_ready(environ: dict[str, str]) -> None:
    faulty = {**environ, "STANDIN_FAULT": "flat", "RESTARTS": "0"}
    message = "the worker is not ready"
    with running_worker(faulty) as worker, pytest.raises(UserError, match=message):
        worker.wait_until_ready(60)


def test_commands_print_or_fail_with_their_output() -> None:
    assert run_command("echo", "a line") == "a line"
    with pytest.raises(CommandError, match="the reason") as caught:
        run_command("sh", "-c", "echo first; echo the reason >&2; exit 3")
    assert "first" in caught.value.output
    with pytest.raises(CommandError, match="nowhere"):
        run_command("/nowhere/program")


def test_the_report_is_one_json_document_on_standard_output(environ: dict[str, str]) -> None:
    expected = json.dumps({"variant": "cpu", "release": "v1.9.3"})
    answer = smoke({**environ, "BUILD_ID": "b" * 64, "IMAGE_SMOKE": expected}, "--json")
    assert answer.returncode == 1, "the packages of an image are missing here"
    bundle = SmokeBundle.model_validate_json(answer.stdout)
    report = bundle.report
    assert (report.build_id, report.variant, report.self_declared) == ("b" * 64, "cpu", True)
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes["container becomes ready"] == "passed"
    assert outcomes["stops within its deadline"] == "passed"
    assert outcomes["torch comes from the base image"] == "failed"
    assert "event=ready" in bundle.log
    assert answer.stderr.splitlines()[-1].startswith("failed: ")


def test_expectations_that_cannot_be_read_are_one_error(environ: dict[str, str]) -> None:
    answer = smoke({**environ, "IMAGE_SMOKE": "[]"})
    assert answer.returncode == 1
    assert "IMAGE_SMOKE is not valid" in answer.stderr
    assert "setting-invalid" in answer.stderr
