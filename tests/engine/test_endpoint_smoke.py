"""The session for RunPod's endpoints, with stand-ins for its queue and the real SDK's worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_smoke import nox, report_in
from tests.support import runpod, runpod_queue, runpod_rest
from tests.support.running import container
from tests.support.runpod_queue import ENDPOINT, WORKER
from tests.support.runpod_rest import KEY, Account
from tests.support.worker import free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.slow]


@pytest.fixture
def environment(cpu_image: str) -> Iterator[dict[str, str]]:
    """Addresses of the stand-ins, whose jobs a container of the image takes."""
    account = Account()
    card: dict[str, Any] = {"gpuTypeId": "NVIDIA GeForce RTX 4090"}
    account.workers = [{"id": WORKER, "status": "RUNNING", **card}]
    account.endpoints[ENDPOINT] = {"gpu": {"pools": ["ADA_24"]}}
    with ExitStack() as stack:
        platform = stack.enter_context(runpod.running())
        queue = stack.enter_context(runpod_queue.serving(platform))
        rest = stack.enter_context(runpod_rest.serving(account))
        variables = {
            **platform.environment(),
            "WEBUI_PORT": str(free_port()),
            "METRICS_PORT": "0",
            "PREFLIGHT": "off",
            "STANDIN_TORCH": "0",
        }
        stack.enter_context(container(cpu_image, network_mode="host", environment=variables))
        yield {
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_API_BASE_URL": rest,
            "RUNPOD_ENDPOINT_BASE_URL": queue,
        }


def test_an_endpoint_passes_with_times_and_a_price(
    environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = ("--endpoint", ENDPOINT, "--variant", "cpu", "--reports", str(tmp_path))
    answer = nox("endpoint_smoke", *arguments, **environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = report_in(tmp_path, "endpoint")
    assert found.passed
    assert found.drew
    assert {check.group for check in found.checks} == {"endpoint", "serving"}
    evidence = {check.name: check.evidence for check in found.checks}
    assert "cold start" in evidence["the first job draws, by /runsync"]
    assert "RTX 4090 at $1.10 an hour" in evidence["the price of an image is known"]
    assert sorted(path.suffix for path in tmp_path.glob("smoke-endpoint.*")) == [
        *(".html", ".json", ".log", ".xml")
    ]
    assert KEY not in json.dumps(found.model_dump(mode="json"))


def test_a_wrong_key_is_one_failure(environment: dict[str, str], tmp_path: Path) -> None:
    wrong = {**environment, "RUNPOD_API_KEY": "rpa_wrong"}
    arguments = ("--endpoint", ENDPOINT, "--reports", str(tmp_path))
    answer = nox("endpoint_smoke", *arguments, **wrong)
    assert answer.returncode != 0
    found = report_in(tmp_path, "endpoint")
    assert {check.code for check in found.failures} == {"runpod-refused"}
    assert "rpa_wrong" not in answer.stdout + answer.stderr


def test_a_key_is_needed(tmp_path: Path) -> None:
    arguments = ("--endpoint", ENDPOINT, "--reports", str(tmp_path))
    answer = nox("endpoint_smoke", *arguments, RUNPOD_API_KEY="")
    assert answer.returncode != 0
    assert "RUNPOD_API_KEY is not set" in answer.stdout + answer.stderr
