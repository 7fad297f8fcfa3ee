"""GPUs, driver and torch: NVML's facts, the rules of CUDA, and the judge of recorded devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from scripts.common.gpu import judge
from scripts.common.gpu.gpu_facts import (
    PROBE,
    Device,
    Driver,
    Gpu,
    TorchFacts,
    parse_capability,
    parse_facts,
)
from scripts.common.gpu.nvml import parse_driver
from scripts.host.config.load import ROOT
from tests.smoke.container_under_test import device_requests
from tests.support.nvml import library, needs_compiler, no_driver

# --- NVML -----------------------------------------------------------------------------------------

ADA = Gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 51_527_024_640, 614_400_000, 37)


def run_nvml(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with the library in a folder as the driver's."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    argv = [sys.executable, "-m", "scripts.common.gpu.nvml"]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@needs_compiler
def test_driver_facts_are_read_through_nvml(tmp_path: Path) -> None:
    library(tmp_path)
    assert parse_driver(run_nvml(tmp_path).stdout) == Driver("570.124.06", (12, 8), (ADA,))


@needs_compiler
def test_a_gpu_slice_has_no_utilisation(tmp_path: Path) -> None:
    library(tmp_path, utilisation=3)
    assert parse_driver(run_nvml(tmp_path).stdout).gpus[0].utilisation is None


@needs_compiler
@pytest.mark.parametrize(
    ("status", "reason"),
    [(18, "RM has detected an NVML/RM version mismatch."), (4242, "The stand-in is broken")],
)
def test_a_broken_driver_gives_its_own_reason(tmp_path: Path, status: int, reason: str) -> None:
    library(tmp_path, init=status)
    done = run_nvml(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"the NVIDIA driver does not work: {reason}\n"


@needs_compiler
def test_a_driver_without_a_function_is_too_old(tmp_path: Path) -> None:
    library(tmp_path, is_old=True)
    assert "too old" in run_nvml(tmp_path).stderr


def test_a_missing_driver_is_one_line(tmp_path: Path) -> None:
    no_driver(tmp_path)
    done = run_nvml(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no NVIDIA driver: libnvidia-ml.so.1 cannot be loaded\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cuda": [12]}'])
def test_other_output_is_no_driver(text: str) -> None:
    with pytest.raises(ValueError, match="Driver"):
        parse_driver(text)


# --- torch's probe --------------------------------------------------------------------------------


def test_the_probe_without_torch_prints_the_error() -> None:
    argv = [sys.executable, "-c", PROBE.read_text(), "float16"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert parse_facts(done.stdout).error == "ModuleNotFoundError: No module named 'torch'"


def test_facts_of_torch_are_the_last_line() -> None:
    device = {"name": "X", "memory": 1, "capability": [8, 9]}
    facts = {"version": "2.7.0", "archs": ["sm_80"], "devices": [device]}
    expected = TorchFacts(version="2.7.0", archs=("sm_80",), devices=(Device("X", 1, (8, 9)),))
    assert parse_facts(f"a warning\n{json.dumps(facts)}\n") == expected


@pytest.mark.parametrize("text", ["", "Illegal instruction", '"text"', '{"unknown": 1}'])
def test_other_output_is_no_facts_of_torch(text: str) -> None:
    with pytest.raises(ValueError, match=r"no facts about torch|Expecting value"):
        parse_facts(text)


# --- which code a device runs ---------------------------------------------------------------------

# Capabilities: https://developer.nvidia.com/cuda-gpus. Architectures: `torch.cuda.get_arch_list()`
# of torch's own wheels. 2.7.0 for CUDA 12.6 was read from it; the CUDA 12.8 list is that of
# 2.7.1+cu128 in public logs; 2.6.0's: https://github.com/pytorch/pytorch/issues/150733. The rest
# is made up to reach a rule.
CU118 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_37", "sm_90"]
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]

GTX_1080, V100, T4, A100, RTX_3090 = (6, 1), (7, 0), (7, 5), (8, 0), (8, 6)
ORIN, RTX_6000_ADA, H100, B200, B300, RTX_5090 = (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)


@pytest.mark.parametrize(
    ("device", "archs", "expected"),
    [
        (RTX_6000_ADA, CU126, "sm_86"),
        (RTX_6000_ADA, CU128, "sm_86"),
        (RTX_6000_ADA, ["sm_80"], "sm_80"),
        (RTX_6000_ADA, ["sm_89", "sm_86"], "sm_89"),
        (RTX_6000_ADA, ["sm_90"], ""),
        (RTX_6000_ADA, ["sm_75", "compute_75"], "compute_75"),
        (RTX_6000_ADA, ["compute_90"], ""),
        (GTX_1080, CU118, "sm_60"),
        (GTX_1080, CU128, ""),
        (V100, CU126, "sm_70"),
        (V100, CU128, ""),
        (T4, CU128, "sm_75"),
        (T4, CU126, "sm_75"),
        (A100, CU126, "sm_80"),
        (A100, CU128, "sm_80"),
        (A100, ["sm_86"], ""),
        (RTX_3090, CU128, "sm_86"),
        (ORIN, CU126, "sm_86"),
        (H100, CU126, "sm_90"),
        (H100, CU128, "sm_90"),
        (H100, ["sm_90a"], "sm_90a"),
        (H100, ["compute_80"], "compute_80"),
        (B200, CU126, ""),
        (B200, CU128, "sm_100"),
        (B200, ["sm_90a", "compute_90a"], ""),
        (B300, CU128, "sm_100"),
        (B300, ["sm_100a"], ""),
        (B300, ["sm_100f"], "sm_100f"),
        (RTX_5090, CU126, ""),
        (RTX_5090, CU128, "sm_120"),
        (RTX_5090, ["compute_100f"], ""),
        ((12, 1), CU128, "sm_120"),
        ((13, 0), CU128, "compute_120"),
        (RTX_6000_ADA, [], ""),
        (RTX_6000_ADA, ["gfx90a", "sm_", "sm_8"], ""),
    ],
)
def test_a_device_runs_what_nvidia_documents(
    device: tuple[int, int], archs: list[str], expected: str
) -> None:
    assert judge.best_arch(device, archs) == expected
    judgement = judge.judge_code([device], archs)
    assert judgement.code == ("" if expected else "no-kernel-image")
    assert f"runs {expected or 'none'}" in judgement.evidence


def test_every_device_must_run_some_code() -> None:
    assert judge.judge_code([RTX_6000_ADA, A100], CU128).outcome == "passed"
    assert judge.judge_code([RTX_6000_ADA, GTX_1080], CU128).outcome == "failed"


def test_a_capability_is_parsed_from_its_usual_form() -> None:
    assert parse_capability("8.9") == (8, 9)
    assert parse_capability("12.0\n") == (12, 0)
    with pytest.raises(ValueError, match="no compute capability"):
        parse_capability("89")


# --- devices as driver and torch describe them ----------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """One device as it was seen.

    Args:
        name: as the driver gives it.
        driver: MiB of memory that the driver counts.
        cuda: MiB of memory that CUDA, and so torch, counts.
        capability: compute capability.
        attention: what A1111 chooses on it.
        source: where the numbers were seen.
    """

    name: str
    driver: int
    cuda: float
    capability: tuple[int, int]
    attention: str
    source: str


DEVICES = (
    Recorded(
        "NVIDIA RTX 6000 Ada Generation",
        49140,
        48622,
        RTX_6000_ADA,
        "xformers",
        "nvidia-smi and torch.cuda.get_device_properties in public logs (search for the name)",
    ),
    Recorded(
        "NVIDIA A100-SXM4-80GB",
        81920,
        81051,
        A100,
        "xformers",
        "https://github.com/modal-labs/modal-client/pull/2797 and "
        "https://github.com/ultralytics/ultralytics/issues/22877",
    ),
    Recorded(
        "NVIDIA H100 80GB HBM3",
        81559,
        81089,
        H100,
        "xformers",
        "https://github.com/modal-labs/modal-client/pull/2797, and torch 2.7.0's "
        "get_device_properties in public logs",
    ),
    Recorded(
        "NVIDIA GeForce RTX 4090",
        24564,
        23.988 * 1024,
        (8, 9),
        "xformers",
        "https://github.com/RLinf/RLinf/issues/255 and "
        "https://github.com/pc2/GPUInspector.jl/issues/11",
    ),
    Recorded(
        "NVIDIA GeForce RTX 5090",
        32607,
        32117,
        RTX_5090,
        "sdp",
        "https://github.com/aikitoria/open-gpu-kernel-modules/issues/1 and "
        "https://github.com/noonghunna/club-3090/issues/1261",
    ),
    Recorded(
        "Tesla T4",
        15360,
        14.75 * 1024,
        T4,
        "xformers",
        "https://github.com/modal-labs/modal-client/pull/2797 and "
        "https://github.com/NVIDIA/DALI/issues/1813",
    ),
)


def by_driver(recorded: Recorded) -> Device:
    """The device as the driver describes it."""
    return Device(recorded.name, recorded.driver * 2**20, recorded.capability, "570.195.03")


def by_torch(recorded: Recorded) -> Device:
    """The same device as torch describes it: CUDA's memory, and no driver."""
    return Device(recorded.name, int(recorded.cuda * 2**20), recorded.capability)


by_name = pytest.mark.parametrize("recorded", DEVICES, ids=lambda device: device.name)


@by_name
def test_driver_and_torch_agree_on_real_devices(recorded: Recorded) -> None:
    assert judge.judge_devices([by_driver(recorded)], [by_torch(recorded)]).outcome == "passed"


@by_name
def test_the_expected_attention_is_what_the_webui_chooses(recorded: Recorded) -> None:
    assert judge.expected_attention(by_torch(recorded)) == recorded.attention


WORKSTATION, GAMING = by_driver(DEVICES[0]), by_driver(DEVICES[3])


def test_a_device_is_described_on_one_line() -> None:
    expected = "NVIDIA RTX 6000 Ada Generation, 51.5 GB, 8.9, driver 570.195.03"
    assert str(WORKSTATION) == expected
    assert Driver("570.195.03", (12, 8), (replace(ADA, total=49140 * 2**20),)).devices == (
        WORKSTATION,
    )


def test_torch_may_count_gpus_in_another_order() -> None:
    pair, swapped = [WORKSTATION, GAMING], [GAMING, WORKSTATION]
    assert judge.judge_devices(pair, swapped).outcome == "passed"


@pytest.mark.parametrize(
    ("torch", "evidence"),
    [
        ([], "2 GPUs, torch 0"),
        ([WORKSTATION, WORKSTATION], "4090"),
        ([WORKSTATION, replace(GAMING, memory=GAMING.memory // 2)], "bytes"),
        ([WORKSTATION, replace(GAMING, capability=(8, 6))], "8.6"),
    ],
)
def test_gpus_that_differ_are_named(torch: list[Device], evidence: str) -> None:
    judgement = judge.judge_devices([WORKSTATION, GAMING], torch)
    assert judgement.code == "gpus-differ"
    assert evidence in judgement.evidence


def test_no_gpu_at_all_is_no_agreement() -> None:
    expected = judge.conclude("the driver lists no GPU", "gpus-differ")
    assert judge.judge_devices([], []) == expected


# --- driver, cuDNN, xformers, kernels, memory -----------------------------------------------------

NO_IMAGE = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
NO_ENGINE = "RuntimeError: GET was unable to find an engine to execute this computation"


@pytest.mark.parametrize(
    ("cuda", "code"),
    [
        ((13, 0), ""),
        ((12, 9), ""),
        ((12, 8), ""),
        ((12, 4), "driver-older"),
        ((11, 8), "driver-too-old"),
    ],
)
def test_a_driver_must_support_the_cuda_of_torch(cuda: tuple[int, int], code: str) -> None:
    judgement = judge.judge_driver(Driver("570.124.06", cuda, ()), "12.8")
    assert judgement.code == code
    assert judgement.outcome == ("warned" if code == "driver-older" else judgement.outcome)


@pytest.mark.parametrize(
    ("number", "evidence", "outcome"),
    [
        (90701, "cuDNN 9.7.1", "passed"),
        (90501, "cuDNN 9.5.1", "passed"),
        (91002, "cuDNN 9.10.2", "passed"),
        (8902, "cuDNN 8.9.2", "failed"),
        (0, "cuDNN is missing", "failed"),
    ],
)
def test_cudnn_is_decoded_and_must_be_9(number: int, evidence: str, outcome: str) -> None:
    judgement = judge.judge_cudnn(number)
    assert (judgement.evidence, judgement.outcome) == (evidence, outcome)


@pytest.mark.parametrize(
    ("xformers", "built_for", "outcome"),
    [
        ("0.0.30", "2.7.0+cu126", "passed"),
        ("0.0.30", "", "passed"),
        ("0.0.30", "2.8.0+cu128", "failed"),
        ("", "", "failed"),
    ],
)
def test_xformers_must_be_built_for_this_torch(xformers: str, built_for: str, outcome: str) -> None:
    facts = TorchFacts(version="2.7.0+cu128", xformers=xformers, xformers_torch=built_for)
    assert judge.judge_xformers(facts).outcome == outcome


@pytest.mark.parametrize(
    ("cuda", "outcome"),
    [("12.6", "passed"), ("", "passed"), ("11.8", "failed"), ("13.0", "failed")],
)
def test_xformers_may_be_built_with_another_minor_version_of_cuda(cuda: str, outcome: str) -> None:
    facts = TorchFacts(
        version="2.7.0+cu128",
        cuda="12.8",
        xformers="0.0.30",
        xformers_torch="2.7.0+cu126",
        xformers_cuda=cuda,
    )
    assert judge.judge_xformers(facts).outcome == outcome
    assert f"CUDA {cuda or 'unknown'}; torch is 2.7.0, CUDA 12.8" in (
        judge.judge_xformers(facts).evidence
    )


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (0.001, ""),
        (0.5, "kernel-failed"),
        (float("nan"), "kernel-failed"),
        ("RuntimeError: CUDNN_STATUS_INTERNAL_ERROR", "kernel-failed"),
        (NO_IMAGE, "no-kernel-image"),
        ("OutOfMemoryError: CUDA out of memory.", "out-of-memory"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`", "out-of-memory"),
        (NO_ENGINE, "cudnn-no-engine"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "kernel-failed"),
    ],
)
def test_results_far_off_failed_or_nan_are_wrong(result: float | str, code: str) -> None:
    judgement = judge.judge_kernels({"right": {"float16": 0.0}, "tried": {"float16": result}})
    assert judgement.code == code
    assert "tried" in judgement.evidence
    assert ("right" in judgement.evidence) == (not code)


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (NO_ENGINE, "out-of-memory"),
        (NO_IMAGE, "no-kernel-image"),
        ("RuntimeError: CUDNN_STATUS_EXECUTION_FAILED", "kernel-failed"),
        (0.5, "kernel-failed"),
    ],
)
def test_full_memory_explains_no_other_error(second: float | str, code: str) -> None:
    full = {"float16": "OutOfMemoryError: CUDA out of memory."}
    assert judge.judge_kernels({"matmul": full, "convolution": {"float16": second}}).code == code


def test_equal_errors_of_many_shapes_stand_once() -> None:
    results: dict[str, float | str] = {f"float16 {head}": "Error: x" for head in (40, 80)}
    assert judge.kernel_error(results) == "float16 40 and float16 80 Error: x"


@pytest.mark.parametrize("kernels", [{}, {"matmul": {}}])
def test_without_a_result_no_kernel_has_run(kernels: dict[str, dict[str, float | str]]) -> None:
    expected = judge.conclude("nothing was computed", "kernel-failed")
    assert judge.judge_kernels(kernels) == expected


def test_gpu_memory_may_grow_by_workspaces_and_no_more() -> None:
    limit = 10**9 + judge.LEFT_OVER
    assert judge.judge_memory_after_jobs(10**9, limit).outcome == "passed"
    assert judge.judge_memory_after_jobs(10**9, limit + 1).code == "gpu-memory-kept"


def test_gpus_are_requested_as_the_engines_api_expects() -> None:
    assert device_requests("") == []
    every, one = device_requests("all")[0], device_requests("1")[0]
    assert (every["Count"], every["Capabilities"]) == (-1, [["gpu"]])
    assert (one["DeviceIDs"], one["Count"]) == (["1"], 0)
    assert isinstance(one, docker.types.DeviceRequest)
