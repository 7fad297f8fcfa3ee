"""The GPU checks' judgement over what real devices say of themselves."""

from __future__ import annotations

from dataclasses import dataclass

import docker
import pytest

from scripts.common.gpu import judge
from tests.smoke.container_under_test import device_requests

# What torch's own wheels carry. 2.7.0 for CUDA 12.6 was read from it; the CUDA 12.8 list is that of
# 2.7.1+cu128 in public logs; 2.6.0's: https://github.com/pytorch/pytorch/issues/150733.
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@dataclass(frozen=True)
class Recorded:
    """One device: what nvidia-smi says of it, and the MiB that CUDA (and so torch) counts.

    Args:
        smi: name, memory in MiB and compute capability, as nvidia-smi prints them.
        cuda: total memory in MiB as a CUDA program sees it.
        attention: what A1111 chooses on it.
        on: the torch wheels whose code it runs.
        source: where the numbers were seen.
    """

    smi: str
    cuda: float
    attention: str
    on: tuple[str, ...]
    source: str


DEVICES = (
    Recorded(
        "NVIDIA RTX 6000 Ada Generation, 49140, 8.9",
        48622,
        "xformers",
        ("cu126", "cu128"),
        "nvidia-smi and torch.cuda.get_device_properties in public logs (search for the name)",
    ),
    Recorded(
        "NVIDIA A100-SXM4-80GB, 81920, 8.0",
        81051,
        "xformers",
        ("cu126", "cu128"),
        "https://github.com/modal-labs/modal-client/pull/2797 and "
        "https://github.com/ultralytics/ultralytics/issues/22877",
    ),
    Recorded(
        "NVIDIA H100 80GB HBM3, 81559, 9.0",
        81089,
        "xformers",
        ("cu126", "cu128"),
        "https://github.com/modal-labs/modal-client/pull/2797, and torch 2.7.0's "
        "get_device_properties in public logs",
    ),
    Recorded(
        "NVIDIA GeForce RTX 4090, 24564, 8.9",
        23.988 * 1024,
        "xformers",
        ("cu126", "cu128"),
        "https://github.com/RLinf/RLinf/issues/255 and "
        "https://github.com/pc2/GPUInspector.jl/issues/11",
    ),
    Recorded(
        "NVIDIA GeForce RTX 5090, 32607, 12.0",
        32117,
        "sdp",
        ("cu128",),
        "https://github.com/aikitoria/open-gpu-kernel-modules/issues/1 and "
        "https://github.com/noonghunna/club-3090/issues/1261",
    ),
    Recorded(
        "Tesla T4, 15360, 7.5",
        14.75 * 1024,
        "xformers",
        ("cu126", "cu128"),
        "https://github.com/modal-labs/modal-client/pull/2797 and "
        "https://github.com/NVIDIA/DALI/issues/1813",
    ),
)
ARCHS = {"cu126": CU126, "cu128": CU128}


DRIVER = "570.195.03"


def as_smi(recorded: Recorded) -> judge.Device:
    """The device as nvidia-smi describes it."""
    [device] = judge.parse_smi(f"{recorded.smi}, {DRIVER}\n")
    return device


def named(recorded: Recorded) -> str:
    return recorded.smi.partition(",")[0]


def as_torch(recorded: Recorded) -> judge.Device:
    """The same device as torch describes it: CUDA's memory, and no driver."""
    device = as_smi(recorded)
    return judge.Device(device.name, int(recorded.cuda * 2**20), device.capability)


@pytest.mark.parametrize("recorded", DEVICES, ids=named)
def test_driver_and_torch_agree_on_real_devices(recorded: Recorded) -> None:
    assert judge.disagreement([as_smi(recorded)], [as_torch(recorded)]) == ""


@pytest.mark.parametrize("recorded", DEVICES, ids=named)
@pytest.mark.parametrize("wheel", ARCHS)
def test_each_wheel_is_judged_by_the_rules_of_cuda(recorded: Recorded, wheel: str) -> None:
    missing = judge.without_code([as_torch(recorded)], ARCHS[wheel])
    assert (missing == ()) == (wheel in recorded.on)


@pytest.mark.parametrize("recorded", DEVICES, ids=named)
def test_the_attention_that_is_expected_is_what_the_webui_chooses(recorded: Recorded) -> None:
    assert judge.attention(as_torch(recorded)) == recorded.attention


ADA, GAMING = as_smi(DEVICES[0]), as_smi(DEVICES[3])


def test_nvidia_smi_is_read_in_bytes_and_versions() -> None:
    assert judge.Device("NVIDIA RTX 6000 Ada Generation", 49140 * 2**20, (8, 9), DRIVER) == ADA
    assert str(ADA) == "NVIDIA RTX 6000 Ada Generation, 51.5 GB, 8.9, driver 570.195.03"


def test_torch_may_count_in_another_order() -> None:
    assert judge.disagreement([ADA, GAMING], [GAMING, ADA]) == ""


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        ([], "2 GPUs, torch 0"),
        ([ADA, ADA], "4090"),
        ([ADA, judge.Device(GAMING.name, GAMING.memory // 2, GAMING.capability)], "bytes"),
        ([ADA, judge.Device(GAMING.name, GAMING.memory, (8, 6))], "8.6"),
    ],
)
def test_gpus_that_differ_are_told(torch: list[judge.Device], words: str) -> None:
    assert words in judge.disagreement([ADA, GAMING], torch)


def test_no_gpu_at_all_is_no_agreement() -> None:
    assert judge.disagreement([], []) == "nvidia-smi lists no GPU"


def test_results_far_off_raised_or_nan_are_wrong() -> None:
    errors: dict[str, float | str] = {
        "fine": 0.001,
        "far": 0.5,
        "nan": float("nan"),
        "raised": "RuntimeError: no kernel",
    }
    assert [line.partition(":")[0] for line in judge.wrong(errors, 0.03)] == [
        "far",
        "nan",
        "raised",
    ]


def test_gpu_memory_may_grow_by_workspaces_and_no_more() -> None:
    assert judge.kept(10**9, 10**9 + judge.LEFT_OVER) == ""
    assert judge.kept(10**9, 10**9 + judge.LEFT_OVER + 1)


def test_gpus_are_asked_for_as_the_engines_api_wants() -> None:
    assert device_requests("") == []
    every, one = device_requests("all")[0], device_requests("1")[0]
    assert (every["Count"], every["Capabilities"]) == (-1, [["gpu"]])
    assert (one["DeviceIDs"], one["Count"]) == (["1"], 0)
    assert isinstance(one, docker.types.DeviceRequest)
