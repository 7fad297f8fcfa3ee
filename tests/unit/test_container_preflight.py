"""The container's checks of itself: each over recorded facts, and how the facts are determined."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.check import CheckResult, Outcome, format_results
from scripts.common.gpu.gpu_facts import Device, Driver, Gpu, TorchFacts
from scripts.container.__main__ import main as worker
from scripts.container.preflight.preflight_checks import run_checks
from scripts.container.preflight.preflight_facts import Facts, ask_torch
from scripts.host.config.load import ROOT
from tests.support.nvml import no_driver

ADA = Gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 51_527_024_640, 614_400_000, 0)
DRIVER = Driver("570.124.06", (12, 8), (ADA,))
TORCH = TorchFacts(
    version="2.7.0+cu128",
    cuda="12.8",
    cudnn=90701,
    archs=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
    xformers="0.0.30",
    xformers_torch="2.7.0+cu126",
    devices=(Device(ADA.name, 50_980_000_000, (8, 9)),),
    kernels={name: {"float16": 0.0005} for name in ("matmul", "convolution", "attention")},
)
HEALTHY: dict[str, Any] = {
    "accelerator": "cuda",
    "driver": DRIVER,
    "driver_error": "",
    "torch": TORCH,
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "model": "/model.safetensors",
    "model_missing": False,
    "model_error": "",
    "model_base": "SD1",
    "previews_missing": "",
    "models": {"checkpoint": 1},
    "models_shadowed": 0,
    "model_problems": [],
    "checkpoints_in_memory": 1,
    "checkpoint_sizes": [2_000_000_000],
    "volume": "/runpod-volume",
    "volume_error": "",
    "volume_there": True,
    "memory": 32_000_000_000,
    "memory_needed": 3_000_000_000,
    "memory_weights": 0,
    "gpu_weights": 2_300_000_000,
    "gpu_memory_needed": 3_800_000_000,
    "shm": 67_108_864,
}


def check(**changes: object) -> tuple[CheckResult, ...]:
    """Run the checks over the facts of a healthy worker, changed."""
    return run_checks(Facts(**{**HEALTHY, **changes}))


def findings(**changes: object) -> dict[str, tuple[str, Outcome]]:
    """Return what has not passed: check to code and outcome."""
    results = check(**changes)
    return {each.name: (each.code, each.outcome) for each in results if each.outcome != "passed"}


def with_torch(**changes: object) -> dict[str, object]:
    return {"torch": replace(TORCH, **changes)}  # type: ignore[arg-type]  # any field


def with_driver(**changes: object) -> dict[str, object]:
    return {"driver": replace(DRIVER, **changes)}  # type: ignore[arg-type]  # any field


def with_kernel(error: str) -> dict[str, object]:
    return with_torch(kernels={**TORCH.kernels, "attention": {"float16": error}})


def no_cuda(error: str) -> dict[str, object]:
    """Facts of a GPU that the driver lists, and torch cannot use."""
    kernels = {name: {"float16": error} for name in TORCH.kernels}
    return with_torch(devices=(), cuda_error=error, kernels=kernels)


NO_KERNEL_IMAGE = (
    "RuntimeError: CUDA error: no kernel image is available for execution on the device"
)
FULL: tuple[str, str, Outcome] = ("kernels", "out-of-memory", "failed")
UNUSABLE: tuple[str, str, Outcome] = ("devices", "gpus-differ", "failed")


def with_gpu(capability: tuple[int, int]) -> dict[str, object]:
    """Facts of one GPU of another capability, as driver and torch see it."""
    seen = replace(TORCH.devices[0], capability=capability)
    torch = with_torch(devices=(seen,))
    return with_driver(gpus=(replace(ADA, capability=capability),)) | torch


def test_an_rtx_6000_ada_with_the_shipped_stack_has_no_finding() -> None:
    assert findings() == {}
    evidence = {each.name: each.evidence for each in check()}
    assert "8.9 runs sm_86" in evidence["code-for-gpu"]
    assert evidence["gpu"] == "NVIDIA RTX 6000 Ada Generation, 48 GiB, 8.9"


@pytest.mark.parametrize(
    ("changes", "check", "code", "outcome"),
    [
        ({"driver": None, "driver_error": "no"}, "gpu", "gpu-not-visible", "failed"),
        (with_driver(gpus=()), "gpu", "gpu-not-visible", "failed"),
        (with_driver(cuda=(12, 4)), "driver", "driver-older", "warned"),
        (with_driver(cuda=(11, 8)), "driver", "driver-too-old", "failed"),
        (with_gpu((6, 1)), "code-for-gpu", "no-kernel-image", "failed"),
        (with_torch(error="ImportError: libcudart"), "torch", "torch-broken", "failed"),
        (with_torch(cuda="", archs=()), "torch", "torch-broken", "failed"),
        (with_torch(cudnn=8902), "cudnn", "cudnn-too-old", "failed"),
        (with_torch(cudnn=0), "cudnn", "cudnn-too-old", "failed"),
        (with_torch(xformers=""), "xformers", "xformers-mismatch", "failed"),
        (with_torch(xformers_torch="2.8.0+cu128"), "xformers", "xformers-mismatch", "failed"),
        (with_kernel(NO_KERNEL_IMAGE), "kernels", "no-kernel-image", "failed"),
        (with_kernel("RuntimeError: CUDNN_STATUS"), "kernels", "kernel-failed", "failed"),
        (with_kernel("OutOfMemoryError: CUDA out of memory."), *FULL),
        (with_kernel("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), *FULL),
        (with_kernel("AcceleratorError: CUDA error: out of memory"), *FULL),
        (no_cuda("RuntimeError: No CUDA GPUs are available"), *UNUSABLE),
        (no_cuda("RuntimeError: Found no NVIDIA driver on your system."), *UNUSABLE),
        (no_cuda("RuntimeError: Unexpected error from x. Error 802: system not yet"), *UNUSABLE),
        (no_cuda("RuntimeError: CUDA error: out of memory"), "devices", *FULL[1:]),
        (with_torch(devices=TORCH.devices * 2), "devices", "gpus-differ", "warned"),
        ({"tcmalloc": ""}, "tcmalloc", "tcmalloc-missing", "warned"),
        ({"model_error": "no", "model_missing": True}, "model", "model-missing", "failed"),
        ({"model_error": "not whole"}, "model", "model-corrupt", "failed"),
        ({"model_problems": ["/v/x: a link to nothing"]}, "models", "models-unseen", "warned"),
        ({"previews_missing": "/d/x.pt"}, "previews", "previews-missing", "warned"),
        ({"volume_error": "read-only"}, "volume", "volume-unwritable", "warned"),
        ({"memory": 2_000_000_000}, "memory", "memory-low", "warned"),
        ({"memory": 2, "memory_weights": 3}, "memory", "memory-low", "failed"),
        ({"gpu_memory_needed": 52_000_000_000}, "gpu-memory", "gpu-memory-low", "warned"),
        (
            {"gpu_weights": 52_000_000_000, "gpu_memory_needed": 56_000_000_000},
            "gpu-memory",
            "gpu-memory-low",
            "failed",
        ),
        ({"shm": 1_000_000}, "shm", "shm-small", "warned"),
    ],
)
def test_each_fault_is_found_and_nothing_else(
    changes: dict[str, object], check: str, code: str, outcome: Outcome
) -> None:
    assert findings(**changes) == {check: (code, outcome)}


def test_a_cpu_worker_needs_neither_gpu_nor_xformers() -> None:
    assert findings(accelerator="cpu", driver=None, driver_error="none", torch=None) == {}


def test_torchs_own_text_says_why_it_cannot_use_the_gpu() -> None:
    error = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compat"
    [result] = [each for each in check(**no_cuda(error)) if each.name == "devices"]
    assert result.evidence == f"the driver lists 1 GPUs, torch can use none: {error}"


def test_a_missing_volume_is_no_finding_because_pods_have_none() -> None:
    assert findings(volume_there=False) == {}


def test_every_finding_is_printed_with_message_and_hint() -> None:
    result = CheckResult("gpu", "failed", "the driver lists no GPU", "gpu-not-visible")
    printed = format_results([result])
    assert "fail  gpu" in printed
    assert result.message in printed
    assert "--gpus all" in printed


def test_a_python_without_torch_is_an_error_of_torch() -> None:
    facts = ask_torch(Path(sys.executable))
    assert facts.error == "ModuleNotFoundError: No module named 'torch'"


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_crashed_probe_is_reported_with_its_last_line(tmp_path: Path) -> None:
    crashing = script(tmp_path / "python", "echo 'Illegal instruction' >&2; exit 132")
    assert ask_torch(crashing).error == "its process ended with 132: Illegal instruction"


def test_a_probe_that_hangs_is_killed(tmp_path: Path) -> None:
    hanging = script(tmp_path / "python", f"echo $$ >{tmp_path}/pid; exec sleep 600")
    assert "did not finish within 0.5 s" in ask_torch(hanging, timeout=0.5).error
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("mode", "error"), [(None, "not installed"), (0o644, "Permission denied")])
def test_a_python_that_cannot_start_is_an_error_of_torch(
    tmp_path: Path, mode: int | None, error: str
) -> None:
    python = tmp_path / "python"
    if mode:
        python.touch(mode)
    assert error in ask_torch(python).error


def test_facts_are_determined_without_a_gpu(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"\xff" * 64)
    no_driver(tmp_path)
    env = {"ACCELERATOR": "cpu", "MODEL_PATH": str(model), "WORKER_DIR": str(tmp_path)}
    env |= {"LD_LIBRARY_PATH": str(tmp_path)}
    argv = [sys.executable, "-m", "scripts.container", "preflight", "--json"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    facts = json.loads(done.stdout)["facts"]
    assert facts["driver"] is None
    assert "libnvidia-ml.so.1" in facts["driver_error"]
    assert "safetensors" in facts["model_error"]
    assert facts["memory"] > 0
    assert facts["shm"] > 0
    assert facts["torch"] is None


def test_the_json_report_keeps_its_fields(tmp_path: Path) -> None:
    devices = [{"name": "X", "memory": 1, "capability": [8, 9]}]
    probe = {"version": "2.7.0", "devices": devices, "kernels": {"matmul": {"float16": 0.5}}}
    python = script(tmp_path / "python", f"echo '{json.dumps(probe)}'")
    env = {"WEBUI_PYTHON": str(python), "MODEL_PATH": "/none", "WORKER_DIR": str(tmp_path)}
    argv = [sys.executable, "-m", "scripts.container", "preflight", "--json"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert set(report) == {"passed", "seconds", "verdicts", "facts"}
    assert {*HEALTHY} == {*report["facts"]}
    assert {*report["verdicts"][0]} == {"check", "level", "evidence", "code", "sentence", "cure"}
    torch = report["facts"]["torch"]
    assert torch["kernels"] == {"matmul": "float16 0.5 off"}
    assert torch["capability"] == [8, 9]


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
