"""The smoke sessions as users run them: on a sound image, on a running worker, without a GPU."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from scripts.common.checks.api_requests import wait_for_api
from scripts.common.checks.smoke_report import SmokeReport
from scripts.common.gpu.gpu_facts import PROBE, parse_facts
from scripts.common.gpu.judge import TOLERANCE, kernel_error
from scripts.common.webui_client import WebuiClient
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, load
from scripts.host.engine.client import client as connect
from scripts.host.registry.tested_image import check_tested
from tests.smoke.container_under_test import PORT, device_requests
from tests.support.baked_models import CHECKS, config_with_models, dockerfile_lines
from tests.support.running import build_image, container, eventually, output
from tests.support.smoke_reports import write_report

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
PASSWORD = secrets.token_hex(8)


def nox(session: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `nox -s SESSION -- ARGUMENTS` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "nox", "-s", session, "--", *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def report_in(folder: Path, variant: str) -> SmokeReport:
    return SmokeReport.model_validate_json((folder / f"smoke-{variant}.json").read_text())


@pytest.mark.slow
def test_a_sound_image_passes_with_a_full_report(cpu_image: str, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    answer = nox("smoke", "--image", cpu_image, "--reports", str(reports))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = report_in(reports, "cpu")
    assert found.passed
    assert found.drew
    assert found.image_id == connect().images.get(cpu_image).id
    assert {"A1111", "torch", "Python"} <= set(found.versions)
    assert found.versions["A1111"].startswith("v1.9.3 (")
    assert found.host.name
    assert list(found.phases) == ["started", "answers", "drawn"]
    assert max(sample.memory for sample in found.memory) > 10**8
    assert [check.name for check in found.checks if not check.evidence] == []
    assert {check.group for check in found.checks} == {
        *("image", "start", "gpu", "serving", "models", "extensions", "end")
    }
    assert sorted(path.name for path in reports.iterdir()) == [
        "smoke-cpu-img2img.png",
        "smoke-cpu-txt2img.png",
        *(f"smoke-cpu.{form}" for form in ("html", "json", "log", "xml")),
    ]
    assert "event=ready" in (reports / "smoke-cpu.log").read_text()
    [suite] = Xml.fromstring((reports / "smoke-cpu.xml").read_text())  # noqa: S314 - our own
    assert suite.get("tests") == str(len(found.checks))
    assert check_tested(resolve(replace(load("cpu"), root=tmp_path)), found.image_id) is None
    assert max(map(len, answer.stdout.partition("\ncpu  ")[2].splitlines()[:-2])) <= 100


def test_a_selection_of_checks_proves_nothing(cpu_image: str, tmp_path: Path) -> None:
    arguments = ("--image", cpu_image, "--reports", str(tmp_path / "reports"), "-k", "labels_name")
    answer = nox("smoke", *arguments)
    assert answer.returncode != 0
    assert "NOT PROVEN: only a part of the checks ran" in answer.stdout
    found = report_in(tmp_path / "reports", "cpu")
    assert not found.passed
    problem = check_tested(resolve(replace(load("cpu"), root=tmp_path)), found.image_id)
    assert problem
    assert "only a part" in problem.message


def test_models_of_many_kinds_are_proven_one_by_one(cpu_image: str, tmp_path: Path) -> None:
    image, config = "a1111-worker-test:baked-kinds", tmp_path / "config.yaml"
    lines = [f"FROM {cpu_image}", *dockerfile_lines(), "ENV STANDIN_TORCH=0"]
    build_image(image, "\n".join(lines))
    config.write_text(config_with_models())
    arguments = ("--image", image, "--reports", str(tmp_path), "-k", "test_models")
    answer = nox("smoke", *arguments, IMAGE_CONFIG=str(config))
    found = report_in(tmp_path, "cpu").checks
    assert [(check.name, check.outcome) for check in found] == [
        (name, "passed") for name in CHECKS
    ], answer.stdout
    assert all(check.evidence for check in found)


def test_a_kept_container_serves_after_the_stop_check(cpu_image: str, tmp_path: Path) -> None:
    arguments = (
        "--image",
        cpu_image,
        "--reports",
        str(tmp_path),
        "--keep",
        "-k",
        "becomes_ready or stops",
    )
    output = nox("smoke", *arguments).stdout
    [(name, url)] = re.findall(r"^kept: (\S+), (http\S+)$", output, re.MULTILINE)
    kept = connect().containers.get(name)
    try:
        wait_for_api(WebuiClient(url), 60)
        assert kept.status == "running"
    finally:
        kept.remove(force=True, v=True)


@pytest.fixture
def locked(cpu_image: str) -> Iterator[str]:
    """The address of a worker that requires a login."""
    environment = {"API_AUTH": f"me:{PASSWORD}", "STANDIN_TORCH": "0"}
    ports = {PORT: ("127.0.0.1", None)}
    with container(cpu_image, environment=environment, ports=ports) as running:
        eventually(lambda: b"event=ready" in running.logs(), seconds=60, what="ready")
        running.reload()
        yield f"http://127.0.0.1:{running.ports[PORT][0]['HostPort']}"


def test_a_running_worker_passes_with_its_login(locked: str, tmp_path: Path) -> None:
    arguments = ("--url", locked, "--reports", str(tmp_path))
    answer = nox("api_smoke", *arguments, API_AUTH=f"me:{PASSWORD}")
    assert answer.returncode == 0, answer.stdout
    found = report_in(tmp_path, "url")
    assert found.passed
    assert found.image == locked
    assert found.image_id == ""
    assert len(found.pictures) == 2
    everything = [answer.stdout, answer.stderr]
    everything += [path.read_text() for path in tmp_path.iterdir() if path.suffix != ".png"]
    assert PASSWORD not in "".join(everything)


@pytest.mark.parametrize("login", ["", "me:wrong"])
def test_without_login_one_failure_names_the_setting(
    locked: str, tmp_path: Path, login: str
) -> None:
    answer = nox("api_smoke", "--url", locked, "--reports", str(tmp_path), API_AUTH=login)
    assert answer.returncode != 0
    failed = [check for check in report_in(tmp_path, "url").checks if check.outcome == "failed"]
    assert [check.code for check in failed] == ["api-locked"]
    assert "hint: set API_AUTH=user:password" in answer.stdout


def test_an_address_that_does_not_answer_is_one_failure(tmp_path: Path) -> None:
    arguments = ("--url", "http://127.0.0.1:9", "--reports", str(tmp_path), "--timeout", "1")
    answer = nox("api_smoke", *arguments)
    assert answer.returncode != 0
    failed = [check for check in report_in(tmp_path, "url").checks if check.outcome == "failed"]
    assert [check.code for check in failed] == ["port-closed"]


@pytest.fixture
def small() -> Iterator[Any]:
    """An image of one file."""
    client = connect()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    name = f"a1111-worker-small:{secrets.token_hex(4)}"
    client.api.import_image_from_data(data.getvalue(), *name.split(":"))
    yield client.images.get(name)
    client.images.remove(name, force=True)
    client.close()


def test_without_a_gpu_the_report_of_a_gpu_stays_until_a_failure(
    small: Any, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    proven = write_report(reports, small.id, variant="cuda128")
    loaded = replace(load("cuda128"), root=tmp_path)
    arguments = ("--image", small.id, "--variant", "cuda128", "--reports", str(reports), "-k")

    answer = nox("smoke", *arguments, "becomes_ready")  # which needs a GPU, so it is skipped
    assert "drawing needs a GPU: nox -s gpu_smoke -- --variant cuda128" in answer.stdout
    assert "the earlier report stays, in which this image drew: " in answer.stdout
    assert report_in(reports, "cuda128") == proven
    assert check_tested(resolve(loaded), small.id) is None

    nox("smoke", *arguments, "labels_name")  # which this image does not have
    problem = check_tested(resolve(loaded), small.id)
    assert problem
    assert "failed" in problem.message
    assert not connect().containers.list(all=True, filters={"ancestor": small.id})


@pytest.mark.parametrize(("gpu", "count", "ids"), [("all", -1, []), ("1", 0, ["1"])])
def test_the_engine_gets_requests_for_the_named_gpus(
    small: Any, gpu: str, count: int, ids: list[str]
) -> None:
    client = connect()
    made = client.containers.create(small.id, ["true"], device_requests=device_requests(gpu))
    try:
        [request] = made.attrs["HostConfig"]["DeviceRequests"]
    finally:
        made.remove()
        client.close()
    assert request["Capabilities"] == [["gpu"]]
    assert (request["Count"], request["DeviceIDs"] or []) == (count, ids)


DTYPES = ("float16", "bfloat16")


def test_without_a_gpu_the_probe_reports_each_kernel(
    cuda_image: str,
) -> None:
    argv = ("/opt/webui/bin/python", "-c", PROBE.read_text(), *DTYPES)
    facts = parse_facts(output(cuda_image, *argv))
    assert facts.devices == ()
    assert "Found no NVIDIA driver" in facts.cuda_error
    assert set(facts.kernels) == {"matmul", "convolution", "attention"}
    for results in facts.kernels.values():
        assert all(value == facts.cuda_error for value in results.values())
        assert kernel_error(results).count("Error: ") == 1
    heads = {f"{dtype} {head}" for dtype in DTYPES for head in (40, 80, 160, 64, 512)}
    assert set(facts.kernels["attention"]) == {*heads, "float32 512"}


COMPUTE_ON_CPU = """
import json, sys
sys.path.insert(0, "/opt/worker/scripts/common/gpu")
import torch, torch_probe
found = torch_probe.list_kernels(torch, ["float16", "bfloat16"], "cpu")
print(json.dumps({f"{name} {label}": run() for name, label, run in found}))
"""


def test_the_probes_shapes_give_the_same_result_in_half_precision(cpu_image: str) -> None:
    results = json.loads(output(cpu_image, "/opt/webui/bin/python", "-c", COMPUTE_ON_CPU))
    assert len(results) == 18
    assert max(results.values()) < TOLERANCE


def skip_with_gpus() -> None:
    """Skip a test where the engine has GPUs."""
    if any("nvidia" in name for name in connect().info().get("Runtimes", {})):
        pytest.skip("this engine has GPUs")


def test_without_a_gpu_the_gpu_session_fails_in_one_line(small: Any, tmp_path: Path) -> None:
    skip_with_gpus()
    began = time.monotonic()
    answer = nox("gpu_smoke", "--image", small.id, "--reports", str(tmp_path / "reports"))
    assert time.monotonic() - began < 30
    assert answer.returncode != 0
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("ERROR:")]
    assert " - run this where the NVIDIA driver" in line
    assert line.endswith("nox -s smoke -- --variant cuda128 [gpu-not-visible]")
    assert "Traceback" not in answer.stdout + answer.stderr
    assert not (tmp_path / "reports").exists()
    assert not connect().containers.list(all=True, filters={"ancestor": small.id})


def test_allow_no_gpu_skips_and_proves_nothing(small: Any, tmp_path: Path) -> None:
    skip_with_gpus()
    arguments = ("--image", small.id, "--allow-no-gpu", "--reports", str(tmp_path / "reports"))
    answer = nox("gpu_smoke", *arguments)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "warning: nothing is proven: the engine has no GPU to give" in answer.stdout
    assert not (tmp_path / "reports").exists()
