"""What only a GPU can prove: that torch and the driver agree, and that kernels run and are right.

Collected between the image and the serving checks; `scripts.host.smoke.gpu` judges the facts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.host.smoke import gpu
from scripts.host.smoke.api import Api
from scripts.host.smoke.worker import Worker

Saw = Callable[[object], None]
# Half precision against single: bfloat16 keeps 8 bits, so 2**-8 for each rounding of a few.
TOLERANCE = 0.03
PROBE = Path(gpu.__file__).with_name("gpu_probe.py")


@pytest.fixture(scope="module")
def on_gpu(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Worker:
    """A worker with a GPU."""
    if not pytestconfig.getoption("--gpu"):
        pytest.skip("only with a GPU: nox -s gpu_smoke")
    worker: Worker = request.getfixturevalue("ready")
    return worker


@pytest.fixture(scope="module")
def smi(on_gpu: Worker) -> tuple[gpu.Device, ...]:
    """What the driver says."""
    return gpu.parse_smi(on_gpu.container.exec_run(list(gpu.SMI)).output.decode())


@pytest.fixture(scope="module")
def probed(on_gpu: Worker) -> dict[str, Any]:
    """What torch says and computes."""
    words = ["/opt/webui/bin/python", "-c", PROBE.read_text(encoding="utf-8")]
    told = on_gpu.container.exec_run(words).output.decode().splitlines()[-1]
    facts: dict[str, Any] = json.loads(told)
    return facts


@pytest.fixture(scope="module")
def devices(probed: dict[str, Any]) -> tuple[gpu.Device, ...]:
    """The GPUs that torch sees."""
    return tuple(
        gpu.Device(each["name"], each["memory"], (each["capability"][0], each["capability"][1]))
        for each in probed["devices"]
    )


@pytest.mark.fails_as("gpus-differ")
def test_driver_and_torch_agree_on_the_gpus(
    smi: tuple[gpu.Device, ...], devices: tuple[gpu.Device, ...], saw: Saw
) -> None:
    saw(", ".join(f"{each.name}, {each.memory / 2**30:.0f} GiB" for each in smi))
    difference = gpu.disagreement(smi, devices)
    assert not difference, difference


@pytest.mark.fails_as("no-kernel-image")
def test_torch_carries_code_for_these_gpus(
    probed: dict[str, Any], devices: tuple[gpu.Device, ...], saw: Saw
) -> None:
    saw(" ".join(probed["archs"]))
    assert devices
    missing = gpu.without_code(devices, probed["archs"])
    assert not missing, f"no code for {', '.join(missing)}"


@pytest.mark.fails_as("kernel-failed")
@pytest.mark.parametrize("kernel", ["matmul", "convolution"])
def test_kernels_run_and_are_right(probed: dict[str, Any], kernel: str, saw: Saw) -> None:
    errors = {name: value for name, value in probed["errors"].items() if name.startswith(kernel)}
    saw(errors)
    assert errors
    assert not gpu.wrong(errors, TOLERANCE)


@pytest.mark.fails_as("cudnn-too-old")
def test_convolutions_go_through_cudnn_9(probed: dict[str, Any], saw: Saw) -> None:
    saw(probed["cudnn"])
    assert probed["cudnn"] >= 90_000


@pytest.mark.fails_as("xformers-mismatch")
def test_xformers_equals_torchs_own_attention(probed: dict[str, Any], saw: Saw) -> None:
    errors = {name: value for name, value in probed["errors"].items() if "attention" in name}
    saw(errors)
    assert errors
    assert not gpu.wrong(errors, TOLERANCE)


@pytest.mark.fails_as("xformers-mismatch")
def test_the_webui_uses_the_configured_attention(on_gpu: Worker, saw: Saw) -> None:
    line = next((x for x in on_gpu.log.splitlines() if "Applying attention optimization" in x), "")
    saw(line)
    assert "xformers" in line, "the WebUI did not choose xformers"


@pytest.mark.fails_as("gpu-memory-kept")
def test_gpu_memory_returns_after_jobs(on_gpu: Worker, api: Api, loaded: Any, saw: Saw) -> None:
    assert on_gpu
    edge, steps = loaded.config.smoke.image_size, loaded.config.smoke.steps
    fields = {"prompt": "a lighthouse", "width": edge, "height": edge, "steps": steps}
    used = []
    for _ in range(3):
        api.draw(**fields)
        used.append(int(api.call("/sdapi/v1/memory").body["cuda"]["system"]["used"]))
    saw(f"{used[0]} bytes after the first job, {used[-1]} after the third")
    assert not gpu.kept(used[0], used[-1]), gpu.kept(used[0], used[-1])
