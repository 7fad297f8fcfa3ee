"""The table of known failures, its signatures, and the error that reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics, excerpt, match, refine_code
from scripts.host.config.load import ROOT

A1111 = "https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues"


@dataclass(frozen=True)
class Line:
    """A line of a real log, the code of its failure, and where it was seen."""

    code: str
    text: str
    source: str


LINES = (
    Line(
        "gpu-not-visible",
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA "
        "GPU and installed a driver from http://www.nvidia.com/Download/index.aspx",
        "https://github.com/mbrossar/denoise-imu-gyro/issues/5",
    ),
    Line(
        "gpu-not-visible",
        "AssertionError: Torch is not able to use GPU; add --skip-torch-cuda-test to "
        "COMMANDLINE_ARGS variable to disable this check",
        "https://github.com/yftzeng/stable-diffusion-webui-docker/issues/5",
    ),
    Line(
        "gpu-not-given",
        'could not select device driver "" with capabilities: [[gpu]]',
        "https://github.com/NVIDIA/nvidia-docker/issues/1352",
    ),
    Line(
        "gpu-not-given",
        "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
        "https://github.com/NVIDIA/nvidia-container-toolkit/issues/1269",
    ),
    Line(
        "port-taken",
        "Bind for 0.0.0.0:443 failed: port is already allocated",
        "https://github.com/moby/moby/issues/36591",
    ),
    Line(
        "driver-too-old",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11060). Please "
        "update your GPU driver by downloading and installing a new version",
        "https://github.com/AbdBarho/stable-diffusion-webui-docker/issues/667",
    ),
    Line(
        "no-kernel-image",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "https://github.com/pytorch/pytorch/issues/149845",
    ),
    Line(
        "no-kernel-image",
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current "
        "PyTorch installation.",
        "https://github.com/ultralytics/ultralytics/pull/19833",
    ),
    Line(
        "xformers-mismatch",
        "WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for:",
        "https://github.com/facebookresearch/xformers/issues/982",
    ),
    Line(
        "out-of-memory",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 324.00 MiB (GPU 0; "
        "8.00 GiB total capacity; 7.82 GiB already allocated; 0 bytes free)",
        f"{A1111}/10619",
    ),
    Line(
        "out-of-memory",
        "RuntimeError: CUDA error: out of memory",
        "https://github.com/lllyasviel/stable-diffusion-webui-forge/issues/2524",
    ),
    Line(
        "cuda-error",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "torch's message for cudaErrorIllegalAddress, "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html",
    ),
    Line(
        "out-of-memory",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "https://github.com/QwenLM/Qwen3-VL/issues/151",
    ),
    Line(
        "out-of-memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "torch's aten/src/ATen/cuda/Exceptions.h",
    ),
    Line(
        "out-of-memory",
        "RuntimeError: CUDA driver error: out of memory",
        "torch's c10/cuda/driver_api.h",
    ),
    Line(
        "cudnn-no-engine",
        "RuntimeError: GET was unable to find an engine to execute this computation",
        "https://github.com/pytorch/pytorch/issues/108645",
    ),
    Line(
        "cudnn-no-engine",
        "RuntimeError: FIND was unable to find an engine to execute this computation",
        "https://github.com/aigc-apps/sd-webui-EasyPhoto/issues/27",
    ),
    *(
        Line(
            "gpus-differ",
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
            "functions before calling NumCudaDevices() that might have already set an error? "
            f"Error {error}",
            "torch's c10/cuda/CUDAFunctions.cpp with NVIDIA's texts",
        )
        for error in (
            "802: system not yet initialized",
            "803: system has unsupported display driver / cuda driver combination",
            "804: forward compatibility was attempted on non supported HW",
        )
    ),
    Line(
        "gpus-differ",
        "UserWarning: CUDA initialization: CUDA unknown error - this may be due to an incorrectly "
        "set up environment, e.g. changing env variable CUDA_VISIBLE_DEVICES after program start.",
        "torch's c10/cuda/CUDAFunctions.cpp",
    ),
    Line(
        "gpus-differ",
        "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable",
        "torch's message for cudaErrorDevicesUnavailable",
    ),
    Line(
        "cuda-failed",
        "RuntimeError: CUDA error: invalid configuration argument",
        "torch's message for cudaErrorInvalidConfiguration",
    ),
    Line(
        "cuda-failed",
        "RuntimeError: CUDA driver error: invalid argument",
        "torch's c10/cuda/driver_api.h",
    ),
    Line(
        "cuda-error",
        "torch.AcceleratorError: CUDA error: unspecified launch failure",
        "torch's message for cudaErrorLaunchFailure",
    ),
    Line(
        "nans-drawn",
        "modules.devices.NansException: A tensor with all NaNs was produced in VAE.",
        "modules/devices.py of A1111 v1.9.3",
    ),
    Line(
        "nans-drawn",
        "modules.devices.NansException: A tensor with NaNs was produced in Unet.",
        "modules/devices.py of A1111 v1.10.1",
    ),
    Line(
        "model-missing",
        "FileNotFoundError: No checkpoints found. When searching for checkpoints, looked at:",
        f"{A1111}/15722",
    ),
    Line(
        "model-corrupt",
        "safetensors_rust.SafetensorError: Error while deserializing header: "
        "MetadataIncompleteBuffer",
        f"{A1111}/10199",
    ),
    Line("model-not-loaded", "Stable diffusion model failed to load", f"{A1111}/16794"),
    Line(
        "tokenizer-missing",
        "OSError: Can't load tokenizer for 'openai/clip-vit-large-patch14'. If you were trying to "
        "load it from 'https://huggingface.co/models', make sure you don't have a local directory "
        "with the same name.",
        f"{A1111}/11507",
    ),
    Line(
        "previews-missing",
        'File "/stable-diffusion-webui/modules/sd_vae_approx.py", line 39, in download_model',
        "seen with A1111 v1.9.3 and v1.10.1, an SDXL checkpoint and no network",
    ),
    Line(
        "port-closed",
        'level=error event=webui-unusable reason="the API did not answer in time" code=port-closed',
        "scripts/container/webui/readiness.py, seen with the stand-in that never opens its port",
    ),
    Line(
        "port-taken",
        "[Errno 98] error while attempting to bind on address ('0.0.0.0', 3000): address already "
        "in use",
        "uvicorn's message for EADDRINUSE",
    ),
    Line(
        "libgl-missing",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        "seen with the broken image libgl-missing of tests/faults",
    ),
    Line(
        "picture-flat",
        'level=error event=webui-unusable reason="it has one colour throughout" code=picture-flat',
        "scripts/container/webui/readiness.py, seen with the stand-in that draws one colour",
    ),
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.code}-{len(line.text)}")
def test_known_line_gives_code_and_excerpt(line: Line) -> None:
    log = f"Loading weights\n{line.text}\nUvicorn running\n"
    assert refine_code("not-ready", log) == line.code
    assert line.text in excerpt(line.code, log)


def test_cause_wins_over_its_effect() -> None:
    corrupt = next(line.text for line in LINES if line.code == "model-corrupt")
    log = f"{corrupt}\n\nStable diffusion model failed to load\n"
    assert refine_code("not-ready", log) == "model-corrupt"


@pytest.mark.parametrize(
    "line",
    [
        "time=x level=error event=preflight code=cudnn-too-old found=8902",
        "time=x level=error event=webui-died how=exit finding=cudnn-too-old last=…",
        'time=x level=error event=failed reason="it is too old: cudnn - update [cudnn-too-old]"',
    ],
)
def test_code_named_by_the_worker_counts_first(line: str) -> None:
    log = f"Stable diffusion model failed to load\n{line}"
    assert refine_code("not-ready", log) == "cudnn-too-old"
    assert line in excerpt("cudnn-too-old", log)


@pytest.mark.parametrize(
    "line",
    [
        "time=x level=warning event=preflight code=tcmalloc-missing",
        'time=x level=warning event=job-failed reason="no field x [input-invalid]"',
        "time=x level=error event=webui-unusable reason=timeout code=not-ready",
        "time=x level=error event=failed code=no-such-code",
    ],
)
def test_warnings_and_vague_codes_in_a_log_do_not_hide_the_cause(line: str) -> None:
    log = f"{line}\nStable diffusion model failed to load"
    assert refine_code("not-ready", log) == "model-not-loaded"


@pytest.mark.parametrize(
    "text",
    [
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
        "CUDA error: invalid device ordinal",
    ],
)
def test_memory_monitor_without_gpu_is_no_failure(text: str) -> None:
    assert match(f"Warning: caught exception '{text}', memory monitor disabled") is None


def test_the_same_text_elsewhere_is_a_failure() -> None:
    text = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
    assert refine_code("", f"RuntimeError: {text}") == "gpu-not-visible"


def test_specific_code_is_kept() -> None:
    assert refine_code("picture-flat", LINES[0].text) == "picture-flat"


def test_vague_failure_without_signature_shows_end_of_log() -> None:
    log = "\n".join(f"line {number}" for number in range(20))
    assert refine_code("port-closed", log) == "port-closed"
    assert excerpt("port-closed", log).splitlines()[-1] == "line 19"
    assert excerpt("picture-size", log) == ""


def test_every_row_has_message_and_hint_and_a_valid_signature() -> None:
    for row in diagnostics().values():
        assert row.message
        assert not row.message.endswith(".")
        assert row.hint
        re.compile(row.signature)


def _codes_in_source() -> Iterator[tuple[str, str]]:
    """Yield each literal `code=` given to an error, with its place."""
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "Error" in ast.unparse(node.func):
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_code_of_an_error_is_in_the_table() -> None:
    codes = dict(_codes_in_source())
    assert codes
    assert {code: place for code, place in codes.items() if code not in diagnostics()} == {}


def test_error_takes_message_and_hint_from_the_table() -> None:
    row = diagnostics()["api-locked"]
    assert str(UserError(code="api-locked")) == f"{row.message} - {row.hint} [api-locked]"
    error = UserError("the API refuses", location="http://x", hint="log in", code="api-locked")
    assert str(error) == "the API refuses: http://x - log in [api-locked]"
    assert (
        str(UserError("the API refuses", code="no-such-code")) == "the API refuses [no-such-code]"
    )
    assert str(UserError("the API refuses")) == "the API refuses"
