"""What only a GPU can prove: that torch and the driver agree, and that kernels run and are right.

Collected between the image and the serving checks; `scripts.common.gpu.judge` judges the facts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import refine_code
from scripts.common.gpu import judge
from tests.smoke.container_under_test import Worker
from tests.smoke.image_facts import cudnn

Saw = Callable[[object], None]
# Half precision against single: bfloat16 keeps 8 bits, so 2**-8 for each rounding of a few.
TOLERANCE = 0.03
PROBE = Path(judge.__file__).with_name("kernel_probe.py")


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What commands in the container have printed, each run once."""
    return {}


@pytest.fixture
def on_gpu(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Worker:
    """A worker with a GPU."""
    if not pytestconfig.getoption("--gpu"):
        pytest.skip("only with a GPU: nox -s gpu_smoke")
    worker: Worker = request.getfixturevalue("ready")
    return worker


def told(answers: dict[str, str], worker: Worker, *words: str) -> str:
    """What a command prints in the container.

    Raises:
        UserError: it ended with another code than 0.
    """
    key = words[-1]
    if key not in answers:
        code, output = worker.container.exec_run(list(words))
        text = output.decode("utf-8", "replace").strip()
        if code:
            raise UserError(
                f"{words[0]} ended with {code}: {text[-300:]}", code=refine_code("", text)
            )
        answers[key] = text
    return answers[key]


@pytest.fixture
def smi(on_gpu: Worker, answers: dict[str, str], run: Any) -> tuple[judge.Device, ...]:
    """What the driver says."""
    run.gpus = judge.parse_smi(told(answers, on_gpu, *judge.SMI))
    return tuple(run.gpus)


@pytest.fixture
def probed(on_gpu: Worker, answers: dict[str, str]) -> dict[str, Any]:
    """What torch says and computes."""
    code = PROBE.read_text(encoding="utf-8")
    text = told(answers, on_gpu, "/opt/webui/bin/python", "-c", code)
    facts: dict[str, Any] = json.loads(text.splitlines()[-1])
    return facts


@pytest.fixture
def devices(probed: dict[str, Any]) -> tuple[judge.Device, ...]:
    """The GPUs that torch sees."""
    return tuple(
        judge.Device(each["name"], each["memory"], (each["capability"][0], each["capability"][1]))
        for each in probed["devices"]
    )


@pytest.mark.fails_as("gpus-differ")
def test_driver_and_torch_agree_on_the_gpus(
    smi: tuple[judge.Device, ...], devices: tuple[judge.Device, ...], saw: Saw
) -> None:
    saw("; ".join(map(str, smi)))
    difference = judge.disagreement(smi, devices)
    assert not difference, difference


@pytest.mark.fails_as("no-kernel-image")
def test_torch_carries_code_for_these_gpus(
    probed: dict[str, Any], devices: tuple[judge.Device, ...], saw: Saw
) -> None:
    saw(" ".join(probed["archs"]))
    assert devices, "torch sees no GPU"
    missing = judge.without_code(devices, probed["archs"])
    assert not missing, f"no code for {', '.join(missing)}"


@pytest.mark.fails_as("kernel-failed")
@pytest.mark.parametrize("kernel", ["matmul", "convolution"])
def test_kernels_run_and_are_right(probed: dict[str, Any], kernel: str, saw: Saw) -> None:
    errors = {name: value for name, value in probed["errors"].items() if name.startswith(kernel)}
    saw(", ".join(f"{name}: {error}" for name, error in errors.items()))
    assert errors, "nothing was computed"
    assert not judge.wrong(errors, TOLERANCE), "; ".join(judge.wrong(errors, TOLERANCE))


@pytest.mark.fails_as("cudnn-too-old")
def test_convolutions_go_through_cudnn_9(probed: dict[str, Any], saw: Saw) -> None:
    saw(cudnn(probed["cudnn"]) or "no cuDNN")
    assert probed["cudnn"] >= 90_000, "it is not cuDNN 9"


@pytest.mark.fails_as("xformers-mismatch")
def test_xformers_equals_torchs_own_attention(
    probed: dict[str, Any], devices: tuple[judge.Device, ...], saw: Saw
) -> None:
    if all(judge.attention(device) != "xformers" for device in devices):
        pytest.skip("the WebUI does not use xformers on this GPU")
    errors = {name: value for name, value in probed["errors"].items() if "attention" in name}
    saw(", ".join(f"{name}: {error}" for name, error in errors.items()))
    assert errors, "nothing was computed"
    assert not judge.wrong(errors, TOLERANCE), "; ".join(judge.wrong(errors, TOLERANCE))


@pytest.mark.fails_as("xformers-mismatch")
def test_the_webui_uses_the_configured_attention(
    on_gpu: Worker, devices: tuple[judge.Device, ...], saw: Saw
) -> None:
    line = next((x for x in on_gpu.log.splitlines() if "Applying attention optimization" in x), "")
    saw(line)
    wanted = judge.attention(devices[0])
    assert f": {wanted}..." in line, f"the WebUI did not choose {wanted}"
