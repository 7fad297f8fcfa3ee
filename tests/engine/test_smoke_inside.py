"""The command `smoke` in the container: the sessions' checks, and a report that push accepts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.checks.smoke_report import SmokeBundle
from scripts.host.build.image_labels import BUILD_ID_LABEL
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from scripts.host.engine.client import client
from scripts.host.registry.declared_report import fetch_report
from scripts.host.registry.push import PushedReference, PushRecord, record_path
from scripts.host.registry.tested_image import check_tested
from tests.smoke.container_under_test import PORT
from tests.support.running import container, eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_a_pods_report_is_fetched_and_counts_for_push(cpu_image: str, tmp_path: Path) -> None:
    image = client().images.get(cpu_image)
    build_id = image.labels[BUILD_ID_LABEL]
    assert f"BUILD_ID={build_id}" in image.attrs["Config"]["Env"]
    inputs = replace(resolve(load("cpu", ("image.repository=host/me",))), root=tmp_path)
    pushed = PushedReference(reference="host/me:one", digest="sha256:2", was_there=False)
    record = PushRecord(
        image_id=image.id, build_id=build_id, variant="cpu", untested=True, references=(pushed,)
    )
    path = record_path(tmp_path, "cpu", candidate=True)
    path.parent.mkdir()
    path.write_text(record.model_dump_json())
    options = {"environment": {"RUNPOD_POD_ID": "x"}, "ports": {PORT: ("127.0.0.1", None)}}
    with container(cpu_image, command=["smoke", "--json"], **options) as pod:
        eventually(lambda: b"report is served" in pod.logs(), seconds=200, what="the report")
        pod.reload()
        port = pod.ports[PORT][0]["HostPort"]
        fetch_report(inputs, url=f"http://127.0.0.1:{port}/")
        printed = pod.logs(stdout=True, stderr=False).decode()
    assert check_tested(inputs, image.id) is None
    report = SmokeBundle.model_validate_json(printed).report
    assert report.passed, [each for each in report.checks if each.outcome == "failed"]
    assert {"txt2img", "img2img"} <= {name.split("-")[-1][:-4] for name in report.pictures}
    kept = json.loads((tmp_path / "reports" / "smoke-cpu.json").read_text())
    assert kept["self_declared"] is True
    groups = {check.group for check in report.checks}
    assert groups == {"image", "start", "gpu", "serving", "models", "extensions", "end"}


def test_a_worker_that_cannot_start_fails_once(cpu_image: str) -> None:
    environment = {"MODEL_PATH": "/nowhere.safetensors"}
    with container(cpu_image, command=["smoke", "--json"], environment=environment) as run:
        assert run.wait(timeout=200)["StatusCode"] == 1
        printed = run.logs(stdout=True, stderr=False).decode()
    report = SmokeBundle.model_validate_json(printed).report
    assert not report.passed
    failures = {check.name for check in report.failures}
    assert "container becomes ready" in failures
    assert {check.group for check in report.failures} <= {"start"}, report.failures
