"""The smoke sessions as a team runs them: on a sound image, on a running worker, without a GPU."""

from __future__ import annotations

import io
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

import docker
import pytest

from scripts.common.checks.api_checks import wait_for_api
from scripts.common.checks.smoke_report import SmokeReport
from scripts.common.gpu.judge import kernel_error
from scripts.common.gpu.torch_facts import PROBE, parse_facts
from scripts.common.webui_client import WebuiClient
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, load
from scripts.host.registry.push import check_tested
from tests.smoke.container_under_test import PORT, device_requests
from tests.support.running import container, eventually, output
from tests.support.smoke_reports import write_report

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
PASSWORD = secrets.token_hex(8)


def nox(session: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`nox -s SESSION -- WORDS` as a user types it."""
    return subprocess.run(
        [sys.executable, "-m", "nox", "-s", session, "--", *words],
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
def test_a_sound_image_passes_and_the_report_tells_what_was_seen(
    cpu_image: str, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    answer = nox("smoke", "--image", cpu_image, "--reports", str(reports))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = report_in(reports, "cpu")
    assert found.passed
    assert found.drew
    assert found.image_id == docker.from_env().images.get(cpu_image).id
    assert {"A1111", "torch", "Python"} <= set(found.versions)
    assert found.versions["A1111"].startswith("v1.9.3 (")
    assert found.host.name
    assert list(found.phases) == ["started", "answers", "drawn"]
    assert max(sample.memory for sample in found.memory) > 10**8
    assert [check.name for check in found.checks if not check.evidence] == []
    assert {check.group for check in found.checks} == {"image", "start", "gpu", "serving", "end"}
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


def test_one_check_of_them_proves_nothing(cpu_image: str, tmp_path: Path) -> None:
    words = ("--image", cpu_image, "--reports", str(tmp_path / "reports"), "-k", "labels_name")
    answer = nox("smoke", *words)
    assert answer.returncode != 0
    assert "NOT PROVEN: only a part of the checks ran" in answer.stdout
    found = report_in(tmp_path / "reports", "cpu")
    assert not found.passed
    doubt = check_tested(resolve(replace(load("cpu"), root=tmp_path)), found.image_id)
    assert doubt
    assert "only a part" in doubt.message


def test_a_kept_container_still_serves_after_the_stop_was_tested(
    cpu_image: str, tmp_path: Path
) -> None:
    words = (
        "--image",
        cpu_image,
        "--reports",
        str(tmp_path),
        "--keep",
        "-k",
        "becomes_ready or stops",
    )
    told = re.search(r"^kept: (\S+), (http\S+)$", nox("smoke", *words).stdout, re.MULTILINE)
    assert told
    kept = docker.from_env().containers.get(told[1])
    try:
        wait_for_api(WebuiClient(told[2]), 60)
        assert kept.status == "running"
    finally:
        kept.remove(force=True, v=True)


@pytest.fixture
def locked(cpu_image: str) -> Iterator[str]:
    """The address of a worker that asks for a login."""
    environment = {"API_AUTH": f"me:{PASSWORD}", "STANDIN_TORCH": "0"}
    ports = {PORT: ("127.0.0.1", None)}
    with container(cpu_image, environment=environment, ports=ports) as running:
        eventually(lambda: b"event=ready" in running.logs(), seconds=60, what="ready")
        running.reload()
        yield f"http://127.0.0.1:{running.ports[PORT][0]['HostPort']}"


def test_a_running_worker_is_proven_with_its_login(locked: str, tmp_path: Path) -> None:
    words = ("--url", locked, "--reports", str(tmp_path))
    answer = nox("api_smoke", *words, API_AUTH=f"me:{PASSWORD}")
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
def test_without_its_login_one_failure_says_how_to_give_it(
    locked: str, tmp_path: Path, login: str
) -> None:
    answer = nox("api_smoke", "--url", locked, "--reports", str(tmp_path), API_AUTH=login)
    assert answer.returncode != 0
    failed = [check for check in report_in(tmp_path, "url").checks if check.outcome == "failed"]
    assert [check.code for check in failed] == ["api-locked"]
    assert "hint: set API_AUTH=user:password" in answer.stdout


def test_an_address_where_nothing_answers_is_one_failure(tmp_path: Path) -> None:
    words = ("--url", "http://127.0.0.1:9", "--reports", str(tmp_path), "--timeout", "1")
    answer = nox("api_smoke", *words)
    assert answer.returncode != 0
    failed = [check for check in report_in(tmp_path, "url").checks if check.outcome == "failed"]
    assert [check.code for check in failed] == ["port-closed"]


@pytest.fixture
def small() -> Iterator[Any]:
    """An image of one file."""
    client = docker.from_env()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    name = f"a1111-worker-small:{secrets.token_hex(4)}"
    client.api.import_image_from_data(data.getvalue(), *name.split(":"))
    yield client.images.get(name)
    client.images.remove(name, force=True)
    client.close()


def test_without_a_gpu_a_run_leaves_the_proof_of_one_with_a_gpu_until_something_fails(
    small: Any, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    proven = write_report(reports, small.id, variant="cuda128")
    loaded = replace(load("cuda128"), root=tmp_path)
    words = ("--image", small.id, "--variant", "cuda128", "--reports", str(reports), "-k")

    answer = nox("smoke", *words, "becomes_ready")  # which needs a GPU, so it is skipped
    assert "drawing needs a GPU: nox -s gpu_smoke -- --variant cuda128" in answer.stdout
    assert "the earlier report stays, in which this image drew: " in answer.stdout
    assert report_in(reports, "cuda128") == proven
    assert check_tested(resolve(loaded), small.id) is None

    nox("smoke", *words, "labels_name")  # which this image does not have
    doubt = check_tested(resolve(loaded), small.id)
    assert doubt
    assert "failed" in doubt.message
    assert not docker.from_env().containers.list(all=True, filters={"ancestor": small.id})


@pytest.mark.parametrize(("asked", "count", "ids"), [("all", -1, []), ("1", 0, ["1"])])
def test_the_engine_is_asked_for_the_gpus_that_were_named(
    small: Any, asked: str, count: int, ids: list[str]
) -> None:
    client = docker.from_env()
    made = client.containers.create(small.id, ["true"], device_requests=device_requests(asked))
    try:
        [request] = made.attrs["HostConfig"]["DeviceRequests"]
    finally:
        made.remove()
        client.close()
    assert request["Capabilities"] == [["gpu"]]
    assert (request["Count"], request["DeviceIDs"] or []) == (count, ids)


def test_without_a_gpu_the_probe_tells_of_each_kernel_instead_of_crashing(
    cuda_image: str,
) -> None:
    argv = ("/opt/webui/bin/python", "-c", PROBE.read_text(), "float16", "bfloat16")
    facts = parse_facts(output(cuda_image, *argv))
    assert facts.devices == ()
    assert set(facts.kernels) == {"matmul", "convolution", "attention"}
    for results in facts.kernels.values():
        assert set(results) == {"float16", "bfloat16"}
        assert kernel_error(results).count("Error: ") == 2


def without_gpus() -> None:
    """Leave the two tests below to machines whose engine has no GPU to give."""
    if any("nvidia" in name for name in docker.from_env().info().get("Runtimes", {})):
        pytest.skip("this engine has GPUs to give")


def test_without_a_gpu_the_gpu_session_fails_in_seconds_with_one_line(
    small: Any, tmp_path: Path
) -> None:
    without_gpus()
    began = time.monotonic()
    answer = nox("gpu_smoke", "--image", small.id, "--reports", str(tmp_path / "reports"))
    assert time.monotonic() - began < 30
    assert answer.returncode != 0
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("ERROR:")]
    assert "[gpu-not-visible] - run this where the NVIDIA driver" in line
    assert line.endswith("nox -s smoke -- --variant cuda128")
    assert "Traceback" not in answer.stdout + answer.stderr
    assert not (tmp_path / "reports").exists()
    assert not docker.from_env().containers.list(all=True, filters={"ancestor": small.id})


def test_allowed_to_have_no_gpu_it_skips_and_proves_nothing(small: Any, tmp_path: Path) -> None:
    without_gpus()
    words = ("--image", small.id, "--allow-no-gpu", "--reports", str(tmp_path / "reports"))
    answer = nox("gpu_smoke", *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "warning: nothing is proven: the engine has no GPU to give" in answer.stdout
    assert not (tmp_path / "reports").exists()
