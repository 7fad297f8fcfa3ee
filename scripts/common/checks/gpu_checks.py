"""Checks of a worker's GPUs: driver and torch agree, and kernels compute what the CPU computes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from scripts.common.checks.check import Check, CheckSkipped, Prerequisite, check, judge
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import refine_code
from scripts.common.gpu.gpu_facts import PROBE, Device, Driver, TorchFacts, parse_facts
from scripts.common.gpu.judge import (
    Judgement,
    expected_attention,
    judge_code,
    judge_cudnn,
    judge_devices,
    judge_kernels,
)
from scripts.common.gpu.nvml import parse_driver

_READ_DRIVER: Final = ("/opt/runpod/bin/python", "-m", "scripts.common.gpu.nvml")
_DTYPES: Final = ("float16", "bfloat16")


@dataclass
class GpuSubject:
    """A worker with a GPU.

    Args:
        run: runs a command beside the worker and returns its output; raises CommandError.
        log: returns the worker's log.
        driver: facts of the driver, read once.
        torch: facts of torch and what it computed, read once.
        devices: the driver's GPUs; empty until they are read.
    """

    run: Callable[..., str]
    log: Callable[[], str]
    driver: Prerequisite[Driver] = field(init=False)
    torch: Prerequisite[TorchFacts] = field(init=False)
    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        self.driver = Prerequisite(self._read_driver)
        self.torch = Prerequisite(self._read_torch)

    def _read_driver(self) -> Driver:
        driver = parse_driver(self.run(*_READ_DRIVER).splitlines()[-1])
        self.devices = driver.devices
        return driver

    def _read_torch(self) -> TorchFacts:
        probe = PROBE.read_text(encoding="utf-8")
        facts = parse_facts(self.run("/opt/webui/bin/python", "-c", probe, *_DTYPES))
        if facts.error:
            code = refine_code("", facts.error) or "torch-broken"
            raise UserError(f"torch cannot be imported: {facts.error}", code=code)
        return facts


@check("driver and torch see the same GPUs", "gpus-differ")
def gpus_agree(subject: GpuSubject) -> Judgement:
    """Compare the GPUs of NVML and of torch."""
    return judge_devices(subject.driver.get().devices, subject.torch.get().devices)


@check("torch carries code for these GPUs", "no-kernel-image")
def torch_has_code(subject: GpuSubject) -> Judgement:
    """Compare the architectures of torch with the GPUs."""
    torch = subject.torch.get()
    if not torch.devices:
        return judge("", "torch sees no GPU")
    return judge_code([device.capability for device in torch.devices], torch.archs)


@check("cuDNN is 9 or newer", "cudnn-too-old")
def cudnn_is_new(subject: GpuSubject) -> Judgement:
    """Read the version that torch has loaded."""
    return judge_cudnn(subject.torch.get().cudnn)


@check("attention by xformers is correct", "xformers-mismatch")
def attention_is_right(subject: GpuSubject) -> Judgement:
    """Compare with torch's own attention."""
    torch = subject.torch.get()
    if all(expected_attention(device) != "xformers" for device in torch.devices):
        raise CheckSkipped("the WebUI does not use xformers on this GPU")
    found = _judge_kernel(subject, "attention")
    return found._replace(code="xformers-mismatch") if found.code == "kernel-failed" else found


@check("the WebUI uses the expected attention", "xformers-mismatch")
def attention_is_expected(subject: GpuSubject) -> Judgement:
    """Search the log for the WebUI's choice."""
    mark = "Applying attention optimization"
    line = next((line for line in subject.log().splitlines() if mark in line), "")
    devices = subject.torch.get().devices
    if not devices:
        return judge(line, "torch can use no GPU")
    expected = expected_attention(devices[0])
    return judge(line, "" if f": {expected}..." in line else f"expected is {expected}")


def kernel_is_right(name: str, kernel: str) -> Check[GpuSubject]:
    """Make a check that compares a computation with the CPU's."""
    return Check(name, "kernel-failed", lambda subject: _judge_kernel(subject, kernel))


def _judge_kernel(subject: GpuSubject, kernel: str) -> Judgement:
    return judge_kernels({kernel: subject.torch.get().kernels.get(kernel, {})})


GPU_CHECKS: Final[tuple[Check[GpuSubject], ...]] = (
    gpus_agree,
    torch_has_code,
    kernel_is_right("matrix products are correct", "matmul"),
    kernel_is_right("convolutions are correct", "convolution"),
    cudnn_is_new,
    attention_is_right,
    attention_is_expected,
)
