"""The container's preflight in real images, without a driver and with a stand-in for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.nvml import library, needs_compiler
from tests.support.running import container

DRIVER = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"


def preflight(image: str, **options: Any) -> dict[str, Any]:
    """The report of a container's preflight."""
    with container(image, command=["preflight", "--json"], network_mode="none", **options) as one:
        one.wait(timeout=240)
        report: dict[str, Any] = json.loads(one.logs(stdout=True, stderr=False))
        return report


def codes(report: dict[str, Any]) -> dict[str, str]:
    return {row["check"]: row["code"] for row in report["verdicts"]}


def with_card(folder: Path, capability: tuple[int, int]) -> dict[str, Any]:
    built = library(folder, capability=capability)
    return {"volumes": {str(built): {"bind": DRIVER, "mode": "ro"}}}


def test_the_cpu_image_passes_in_a_second_without_a_gpu(cpu_image: str) -> None:
    report = preflight(cpu_image)
    assert report["passed"]
    assert not any(codes(report).values())
    assert report["facts"]["tcmalloc"]
    assert report["seconds"] < 2, "a second, and one more for a machine that does other things"


@pytest.mark.slow
def test_the_cuda_image_without_a_gpu_has_only_that_finding(cuda_image: str) -> None:
    report = preflight(cuda_image)
    assert not report["passed"]
    found = codes(report)
    assert found.pop("gpu") == "gpu-not-visible"
    assert not any(found.values())
    assert report["facts"]["torch"]["xformers"] == "0.0.30"
    assert report["seconds"] - report["facts"]["torch"]["seconds"] < 5


@pytest.mark.slow
@needs_compiler
def test_the_images_torch_has_code_for_an_rtx_6000_ada(cuda_image: str, tmp_path: Path) -> None:
    report = preflight(cuda_image, **with_card(tmp_path, (8, 9)))
    # The driver's library is a stand-in, so CUDA does not start: that is the one finding.
    assert {name: code for name, code in codes(report).items() if code} == {
        "devices": "gpus-differ"
    }
    assert not report["passed"]
    evidence = {row["check"]: row["evidence"] for row in report["verdicts"]}
    assert "RTX 6000 Ada" in evidence["gpu"]
    assert "8.9 runs sm_86" in evidence["code-for-gpu"]
    assert "torch can use none: RuntimeError: Found no NVIDIA driver" in evidence["devices"]


@pytest.mark.slow
@needs_compiler
def test_a_gpu_without_code_in_torch_fails_preflight(cuda_image: str, tmp_path: Path) -> None:
    report = preflight(cuda_image, **with_card(tmp_path, (3, 5)))
    assert not report["passed"]
    assert codes(report)["code-for-gpu"] == "no-kernel-image"


@pytest.mark.slow
def test_a_strict_worker_does_not_serve_without_a_gpu(cuda_image: str) -> None:
    options: dict[str, Any] = {"environment": {"PREFLIGHT": "strict"}, "network_mode": "none"}
    with container(cuda_image, **options) as running:
        assert running.wait(timeout=240)["StatusCode"] == 3
        said = running.logs().decode()
    assert "code=gpu-not-visible" in said
    assert "event=refused" in said


@pytest.mark.slow
@needs_compiler
def test_a_strict_worker_refuses_a_gpu_that_torch_cannot_use(
    cuda_image: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"environment": {"PREFLIGHT": "strict"}, "network_mode": "none"}
    with container(cuda_image, **options, **with_card(tmp_path, (8, 9))) as running:
        assert running.wait(timeout=240)["StatusCode"] == 3
        said = running.logs().decode()
    assert "code=gpus-differ" in said
    assert "event=refused" in said


def test_pip_cache_prune_leaves_no_files_of_root(cpu_image: str, tmp_path: Path) -> None:
    cache = tmp_path / ".cache/a1111/pip/http-v2"
    cache.mkdir(parents=True)
    (cache / "old").write_bytes(b"x" * 100)
    for folder in (tmp_path, *tmp_path.rglob("*")):
        os.chown(folder, 1000, 1000)
    command = ["pip-cache", "prune", "--max-size", "0"]
    volume = {str(tmp_path): {"bind": "/runpod-volume", "mode": "rw"}}
    with container(cpu_image, command=command, volumes=volume) as one:
        assert one.wait(timeout=60)["StatusCode"] == 0
        assert "deleted 1 entries, 100 B" in one.logs().decode()
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {1000}


def test_an_unknown_command_lists_the_known_ones(cpu_image: str) -> None:
    with container(cpu_image, command=["dance"]) as one:
        assert one.wait(timeout=60)["StatusCode"] == 1
        assert "one of: serve, health, preflight" in one.logs().decode()
