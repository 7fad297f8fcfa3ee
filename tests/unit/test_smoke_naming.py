"""Real lines of real logs get the name under which the README and the doctor know the failure."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from scripts.common.diagnostics.signatures import excerpt, named
from scripts.common.diagnostics.table import DIAGNOSTICS

A1111 = "https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues"


@dataclass(frozen=True)
class Line:
    """What a log said, what it means here, and where it was seen."""

    code: str
    said: str
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
        "torch's words for cudaErrorIllegalAddress, "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html",
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
        "port-closed",
        'level=error event=webui-unusable reason="the API did not answer in time"',
        "scripts/container/webui/readiness.py, seen with the stand-in that never opens its port",
    ),
    Line(
        "port-taken",
        "[Errno 98] error while attempting to bind on address ('0.0.0.0', 3000): address already "
        "in use",
        "uvicorn's words for EADDRINUSE",
    ),
    Line(
        "libgl-missing",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        "seen with the broken image libgl-missing of tests/faults",
    ),
    Line(
        "picture-flat",
        'event=webui-unusable reason="the picture has one colour throughout"',
        "scripts/container/webui/readiness.py, seen with the stand-in that draws one colour",
    ),
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.code}-{len(line.said)}")
def test_a_known_line_gets_its_name_and_is_quoted(line: Line) -> None:
    log = f"Loading weights\n{line.said}\nUvicorn running\n"
    assert named("not-ready", log) == line.code
    assert line.said in excerpt(line.code, log)


def test_what_the_issue_of_a_failed_start_may_be_is_all_in_the_table() -> None:
    assert {line.code for line in LINES} <= set(DIAGNOSTICS)


def test_a_failed_load_is_named_by_its_cause_not_by_its_effect() -> None:
    log = f"{LINES[11].said}\n\nStable diffusion model failed to load\n"
    assert named("not-ready", log) == "model-corrupt"


@pytest.mark.parametrize(
    "said",
    [
        "time=x level=error event=preflight code=cudnn-too-old found=8902",
        "time=x level=error event=webui-died how=exit finding=cudnn-too-old last=…",
    ],
)
def test_the_workers_own_name_counts_first(said: str) -> None:
    log = f"Stable diffusion model failed to load\n{said}"
    assert named("not-ready", log) == "cudnn-too-old"
    assert said in excerpt("cudnn-too-old", log)


def test_a_memory_monitor_that_misses_a_gpu_is_no_failure() -> None:
    words = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
    assert named("", f"Warning: caught exception '{words}', memory monitor disabled") == ""
    assert named("", f"RuntimeError: {words}") == "gpu-not-visible"


def test_a_clear_failure_keeps_its_name() -> None:
    assert named("picture-flat", LINES[0].said) == "picture-flat"


def test_a_vague_failure_that_nothing_explains_shows_the_end_of_the_log() -> None:
    log = "\n".join(f"line {number}" for number in range(20))
    assert named("port-closed", log) == "port-closed"
    assert excerpt("port-closed", log).splitlines()[-1] == "line 19"
    assert excerpt("picture-size", log) == ""
