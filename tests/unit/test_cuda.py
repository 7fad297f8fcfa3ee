"""Devices against what wheels carry, judged by NVIDIA's rules.

Capabilities: https://developer.nvidia.com/cuda-gpus. Architectures: `torch.cuda.get_arch_list()` of
the wheels named; of cu128 as reported for 2.7.0, the rest made up to reach a rule.
"""

import pytest

from scripts.common.gpu.capability import capability, carrier

CU118 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_37", "sm_90"]
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]

GTX_1080, V100, RTX_2080, A100, RTX_3090 = (6, 1), (7, 0), (7, 5), (8, 0), (8, 6)
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
        (RTX_2080, CU128, "sm_75"),
        (A100, CU128, "sm_80"),
        (A100, ["sm_86"], ""),
        (RTX_3090, CU128, "sm_86"),
        (ORIN, CU126, "sm_86"),
        (H100, CU126, "sm_90"),
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
def test_a_device_runs_what_nvidia_says_it_runs(
    device: tuple[int, int], archs: list[str], expected: str
) -> None:
    assert carrier(device, archs) == expected


def test_a_capability_is_read_from_its_usual_form() -> None:
    assert capability("8.9") == (8, 9)
    assert capability("12.0\n") == (12, 0)
    with pytest.raises(ValueError, match="no compute capability"):
        capability("89")
