"""Checks that need a GPU: driver and torch agree on it, and kernels run with correct results.

Collected between the image and the serving checks; `scripts.common.gpu.judge` judges the facts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import refine_code
from scripts.common.gpu import judge
from scripts.common.gpu.device import Driver
from scripts.common.gpu.nvml import parse_driver
from scripts.common.gpu.torch_facts import PROBE, TorchFacts, parse_facts
from tests.smoke.container_under_test import Worker

Saw = Callable[[object], None]
ASK_DRIVER = ("/opt/runpod/bin/python", "-m", "scripts.common.gpu.nvml")
ASK_TORCH = ("/opt/webui/bin/python", "-c", PROBE.read_text(), "float16", "bfloat16")


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """Output of commands in the container, each run once."""
    return {}


@pytest.fixture
def on_gpu(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Worker:
    """A worker with a GPU."""
    if not pytestconfig.getoption("--gpu"):
        pytest.skip("only with a GPU: nox -s gpu_smoke")
    worker: Worker = request.getfixturevalue("ready")
    return worker


def output(answers: dict[str, str], worker: Worker, argv: tuple[str, ...]) -> str:
    """Run a command in the container and return its output.

    Raises:
        UserError: it ended with another code than 0.
    """
    if argv[0] not in answers:
        code, printed = worker.container.exec_run(list(argv))
        text = printed.decode("utf-8", "replace").strip()
        if code:
            raise UserError(
                f"{argv[0]} ended with {code}: {text[-300:]}", code=refine_code("", text)
            )
        answers[argv[0]] = text
    return answers[argv[0]]


@pytest.fixture
def driver(on_gpu: Worker, answers: dict[str, str], run: Any) -> Driver:
    """The driver's facts, as seen in the container."""
    found = parse_driver(output(answers, on_gpu, ASK_DRIVER).splitlines()[-1])
    run.gpus = found.devices
    return found


@pytest.fixture
def torch(on_gpu: Worker, answers: dict[str, str]) -> TorchFacts:
    """What torch is and computes in the container."""
    facts = parse_facts(output(answers, on_gpu, ASK_TORCH))
    if facts.error:
        code = refine_code("", facts.error) or "torch-broken"
        raise UserError(f"torch cannot be imported: {facts.error}", code=code)
    return facts


def expect(judgement: judge.Judgement, saw: Saw) -> None:
    """Fail a check, with the judgement's code, unless it passed."""
    saw(judgement.evidence)
    if judgement.outcome != "passed":
        raise UserError(judgement.evidence, code=judgement.code)


@pytest.mark.fails_as("gpus-differ")
def test_driver_and_torch_agree_on_the_gpus(driver: Driver, torch: TorchFacts, saw: Saw) -> None:
    expect(judge.judge_devices(driver.devices, torch.devices), saw)


@pytest.mark.fails_as("no-kernel-image")
def test_torch_carries_code_for_these_gpus(torch: TorchFacts, saw: Saw) -> None:
    assert torch.devices, "torch sees no GPU"
    expect(judge.judge_code((gpu.capability for gpu in torch.devices), torch.archs), saw)


@pytest.mark.fails_as("kernel-failed")
@pytest.mark.parametrize("kernel", ["matmul", "convolution"])
def test_kernels_run_and_are_right(torch: TorchFacts, kernel: str, saw: Saw) -> None:
    expect(judge.judge_kernels({kernel: torch.kernels.get(kernel, {})}), saw)


@pytest.mark.fails_as("cudnn-too-old")
def test_convolutions_go_through_cudnn_9(torch: TorchFacts, saw: Saw) -> None:
    expect(judge.judge_cudnn(torch.cudnn), saw)


@pytest.mark.fails_as("xformers-mismatch")
def test_xformers_equals_torchs_own_attention(torch: TorchFacts, saw: Saw) -> None:
    if all(judge.expected_attention(device) != "xformers" for device in torch.devices):
        pytest.skip("the WebUI does not use xformers on this GPU")
    results = torch.kernels.get("attention", {})
    judgement = judge.judge_kernels({"attention": results})
    saw(judgement.evidence)
    assert judgement.outcome == "passed", judgement.evidence


@pytest.mark.fails_as("xformers-mismatch")
def test_the_webui_uses_the_configured_attention(
    on_gpu: Worker, torch: TorchFacts, saw: Saw
) -> None:
    line = next((x for x in on_gpu.log.splitlines() if "Applying attention optimization" in x), "")
    saw(line)
    expected = judge.expected_attention(torch.devices[0])
    assert f": {expected}..." in line, f"the WebUI did not choose {expected}"
