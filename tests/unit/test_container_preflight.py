"""The container's checks of itself: each verdict over recorded facts, and the gathering of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.gpu import nvml
from scripts.container.__main__ import main as worker
from scripts.container.preflight import table
from scripts.container.preflight.checks import Level, Verdict, judge
from scripts.container.preflight.preflight_facts import Facts, Torch
from scripts.container.preflight.probes import gather, start_torch, torch_facts
from scripts.container.settings import Settings
from tests.support.nvml import library, needs_compiler

ADA = nvml.Gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 51_527_024_640, 614_400_000, 0)
DRIVER = nvml.Driver("570.124.06", (12, 8), (ADA,))
TORCH = Torch(
    version="2.7.0+cu128",
    cuda="12.8",
    cudnn=90701,
    archs=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
    xformers="0.0.30",
    xformers_torch="2.7.0+cu126",
    kernels={"matmul": "", "convolution": "", "attention": ""},
    capability=(8, 9),
)
HEALTHY = Facts(
    accelerator="cuda",
    driver=DRIVER,
    driver_error="",
    torch=TORCH,
    tcmalloc="/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    model="/model.safetensors",
    model_error="",
    volume="/runpod-volume",
    volume_error="",
    volume_there=True,
    memory=32_000_000_000,
    memory_needed=3_000_000_000,
    shm=67_108_864,
)


def findings(facts: Facts) -> dict[str, tuple[str, Level]]:
    """What is not well: check to code and level."""
    return {row.check: (row.code, row.level) for row in judge(facts) if row.level != Level.OK}


def with_torch(**changes: object) -> Facts:
    return replace(HEALTHY, torch=replace(TORCH, **changes))  # type: ignore[arg-type]  # any field


def with_gpu(capability: tuple[int, int]) -> Facts:
    cards = (replace(ADA, capability=capability),)
    return replace(HEALTHY, driver=replace(DRIVER, gpus=cards))


def test_an_rtx_6000_ada_with_the_shipped_stack_has_no_finding() -> None:
    assert findings(HEALTHY) == {}
    assert "8.9 runs sm_86" in next(
        row.evidence for row in judge(HEALTHY) if row.check == "code-for-gpu"
    )


@pytest.mark.parametrize(
    ("facts", "check", "code", "level"),
    [
        (replace(HEALTHY, driver=None, driver_error="no"), "gpu", "gpu-not-visible", "fail"),
        (
            replace(HEALTHY, driver=replace(DRIVER, gpus=())),
            "gpu",
            "gpu-not-visible",
            "fail",
        ),
        (replace(HEALTHY, driver=replace(DRIVER, cuda=(12, 4))), "driver", "driver-older", "warn"),
        (
            replace(HEALTHY, driver=replace(DRIVER, cuda=(11, 8))),
            "driver",
            "driver-too-old",
            "fail",
        ),
        (with_gpu((6, 1)), "code-for-gpu", "no-kernel-image", "fail"),
        (with_gpu((7, 0)), "code-for-gpu", "no-kernel-image", "fail"),
        (with_torch(error="ImportError: libcudart"), "torch", "torch-broken", "fail"),
        (with_torch(cuda="", archs=()), "torch", "torch-broken", "fail"),
        (with_torch(cudnn=8902), "cudnn", "cudnn-too-old", "fail"),
        (with_torch(cudnn=0), "cudnn", "cudnn-too-old", "fail"),
        (with_torch(xformers=""), "xformers", "xformers-mismatch", "fail"),
        (with_torch(xformers_torch="2.8.0+cu128"), "xformers", "xformers-mismatch", "fail"),
        (
            with_torch(kernels={"matmul": "", "attention": "RuntimeError: no kernel image is"}),
            "kernels",
            "no-kernel-image",
            "fail",
        ),
        (
            with_torch(kernels={"convolution": "RuntimeError: CUDNN_STATUS_INTERNAL_ERROR"}),
            "kernels",
            "kernel-failed",
            "fail",
        ),
        (replace(HEALTHY, tcmalloc=""), "tcmalloc", "tcmalloc-missing", "warn"),
        (replace(HEALTHY, model_error="it is not there"), "model", "model-missing", "fail"),
        (replace(HEALTHY, model_error="not whole"), "model", "model-corrupt", "fail"),
        (replace(HEALTHY, volume_error="read-only"), "volume", "volume-unwritable", "warn"),
        (replace(HEALTHY, memory=2_000_000_000), "memory", "memory-low", "warn"),
        (replace(HEALTHY, shm=1_000_000), "shm", "shm-small", "warn"),
    ],
)
def test_each_fault_is_found_and_nothing_else(
    facts: Facts, check: str, code: str, level: str
) -> None:
    assert findings(facts) == {check: (code, Level(level))}


@pytest.mark.parametrize("driver", [(12, 8), (12, 9), (13, 0)])
def test_a_driver_as_new_as_torch_or_newer_is_fine(driver: tuple[int, int]) -> None:
    assert findings(replace(HEALTHY, driver=replace(DRIVER, cuda=driver))) == {}


def test_a_cpu_worker_needs_neither_gpu_nor_xformers() -> None:
    facts = replace(HEALTHY, accelerator="cpu", driver=None, driver_error="none", torch=None)
    assert findings(facts) == {}


def test_a_second_gpu_that_torch_does_not_serve_is_found() -> None:
    cards = (ADA, replace(ADA, name="GTX 1080", capability=(6, 1)))
    assert "code-for-gpu" in findings(replace(HEALTHY, driver=replace(DRIVER, gpus=cards)))


def test_a_missing_volume_is_no_finding_because_pods_have_none() -> None:
    assert findings(replace(HEALTHY, volume_there=False)) == {}


def test_every_finding_in_the_table_says_what_to_do() -> None:
    bad = Verdict("gpu", Level.FAIL, "the driver lists no GPU", "gpu-not-visible")
    shown = table([bad])
    assert "fail  gpu" in shown
    assert bad.sentence in shown
    assert "--gpus all" in shown


def test_a_python_without_torch_is_told_not_raised() -> None:
    told = torch_facts(start_torch(Path(sys.executable)))
    assert told.error == "ModuleNotFoundError: No module named 'torch'"


def test_a_probe_that_crashes_is_told_with_its_last_words(tmp_path: Path) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho 'Illegal instruction' >&2\nexit 132\n")
    crashing.chmod(0o755)
    assert torch_facts(start_torch(crashing)).error == (
        "its process ended with 132: Illegal instruction"
    )


def test_a_probe_that_hangs_is_ended(tmp_path: Path) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    asked = start_torch(hanging)
    assert "no answer" in torch_facts(asked, timeout=0.2).error
    assert asked.returncode is not None


def test_facts_of_this_machine_are_gathered_without_a_gpu(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"\xff" * 64)
    env = {"ACCELERATOR": "cpu", "MODEL_PATH": str(model), "WORKER_DIR": str(tmp_path)}
    facts = gather(Settings.from_environment(env), library="libnothing.so")
    assert facts.driver is None
    assert "libnothing.so" in facts.driver_error
    assert "safetensors" in facts.model_error
    assert facts.memory > 0
    assert facts.shm > 0


def test_the_command_prints_json_and_fails_on_a_missing_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATOR", "cpu")
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "none.safetensors"))
    monkeypatch.setenv("WORKER_DIR", str(tmp_path))
    assert worker(["preflight", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    codes = {row["code"]: row["cure"] for row in report["verdicts"]}
    assert codes["model-missing"]
    assert report["seconds"] < 5


@needs_compiler
def test_the_driver_is_asked_through_its_own_library(tmp_path: Path) -> None:
    told = nvml.ask(str(library(tmp_path)))
    assert told == nvml.Driver("570.124.06", (12, 8), (replace(ADA, utilisation=37),))


@needs_compiler
def test_a_gpu_slice_has_no_utilisation(tmp_path: Path) -> None:
    assert nvml.ask(str(library(tmp_path, utilisation=3))).gpus[0].utilisation is None


@needs_compiler
def test_a_broken_driver_says_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(nvml.NvmlError, match="nvmlInit_v2: Driver/library version mismatch"):
        nvml.ask(str(library(tmp_path, init=18)))


def test_a_driver_without_a_function_is_too_old() -> None:
    with pytest.raises(nvml.NvmlError, match="too old for nvmlInit_v2"):
        nvml.ask("libc.so.6")
