"""Errors of the WebUI become one line with the field and the reason.

The answers are those of the running v1.9.3 and v1.10.1.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.common.webui_client import Response
from scripts.container.serverless.answer.webui_errors import PoisonedError, explain
from scripts.container.serverless.request.job_request import JobRequest
from scripts.container.serverless.request.webui_api import Route


def explained(status: int, body: Any, **fields: Any) -> str:
    response = Response(status, json.dumps(body).encode())
    error = explain(response, JobRequest(Route("POST", "/sdapi/v1/txt2img"), fields, 60))
    assert "\n" not in str(error)
    return str(error)


def raised(name: str, *, detail: str = "", errors: str = "") -> dict[str, str]:
    return {"error": name, "detail": detail, "body": "", "errors": errors}


def test_fastapis_list_of_fields_is_one_line() -> None:
    body = {
        "detail": [
            {
                "loc": ["body", "steps"],
                "msg": "value is not a valid integer",
                "type": "type_error.integer",
            },
            {
                "loc": ["body", "imageList", 0, "name"],
                "msg": "field required",
                "type": "value_error.missing",
            },
        ]
    }
    assert explained(422, body) == (
        "input.steps: value is not a valid integer; input.imageList[0].name: field required - "
        "correct the field and send the job again [input-invalid]"
    )


@pytest.mark.parametrize(
    ("status", "body", "fields", "message"),
    [
        (
            *(422, raised("HTTPException", detail="Script 'nope' not found")),
            {"script_name": "nope"},
            "input.script_name: 422 HTTPException: Script 'nope' not found",
        ),
        (
            *(422, raised("HTTPException", detail="Script 'nope' not found")),
            {"alwayson_scripts": {"nope": {"args": []}}},
            "input.alwayson_scripts.nope: 422",
        ),
        (
            422,
            raised(
                "HTTPException",
                detail="Cannot have a selectable script in the always on scripts params",
            ),
            {"alwayson_scripts": {"X/Y/Z plot": {"args": []}}},
            "input.alwayson_scripts: 422",
        ),
        (
            *(404, raised("HTTPException", detail="Sampler not found")),
            {"sampler_index": "nope"},
            "input.sampler_index: 404",
        ),
        (
            *(404, raised("HTTPException", detail="Init image not found")),
            {},
            "input.init_images is missing: 404",
        ),
        (
            *(500, raised("HTTPException", detail="Invalid encoded image")),
            {"init_images": ["iVBORw0KGgo=", "abc"], "prompt": "x"},
            "input.init_images[1] is no image in base64: 500",
        ),
        (
            *(500, raised("HTTPException", detail="Invalid encoded image")),
            {"upscaler_1": "Lanczos"},
            "input.image is missing: 500",
        ),
        (
            *(500, raised("Exception", errors="could not find upscaler named nope")),
            {"hr_upscaler": "nope", "prompt": "a nope"},
            "input.hr_upscaler: 500 Exception: could not find upscaler named nope",
        ),
        (
            *(500, raised("Exception", errors="Could not find checkpoint with name a/b.pt")),
            {"refiner_checkpoint": "a/b.pt"},
            "input.refiner_checkpoint: 500",
        ),
        (
            *(500, raised("AssertionError", errors="bad sampler name: DPM")),
            {"sampler_name": "DPM++ 2M", "hr_sampler_name": "DPM"},
            "input.hr_sampler_name: 500 AssertionError: bad sampler name: DPM",
        ),
        (
            *(500, raised("KeyError", errors="'nope'")),
            {"override_settings": {"nope": 1}},
            "input.override_settings.nope: 500 KeyError: 'nope'",
        ),
        (
            *(500, raised("RuntimeError", errors="Overflow when unpacking long")),
            {"seed": 2**64},
            "input.seed: 500 RuntimeError",
        ),
        (
            *(500, raised("AssertionError")),
            {"prompt": "x"},
            "500 AssertionError without a reason: the worker's log holds its traceback",
        ),
        (
            *(500, raised("TypeError", errors="'NoneType' object is not iterable")),
            {"sampler_name": "object", "styles": ["iterable"]},
            "500 TypeError: 'NoneType' object is not iterable",
        ),
    ],
)
def test_the_field_is_named(
    status: int, body: dict[str, str], fields: dict[str, Any], message: str
) -> None:
    assert explained(status, body, **fields).startswith(message)


def test_a_known_failure_keeps_its_code() -> None:
    body = raised("RuntimeError", errors="CUDA error: an illegal memory access was encountered")
    response = Response(500, json.dumps(body).encode())
    request = JobRequest(Route("POST", "/sdapi/v1/txt2img"), {"sampler_name": "CUDA"}, 60)
    assert isinstance(explain(response, request), PoisonedError)


@pytest.mark.parametrize(
    ("name", "text", "code", "is_poisoned"),
    [
        # Lasting errors, by the list in NVIDIA's documentation of cudaError_t.
        ("AcceleratorError", "CUDA error: an illegal memory access was", "cuda-error", True),
        ("RuntimeError", "CUDA error: unspecified launch failure", "cuda-error", True),
        ("RuntimeError", "CUDA error: device-side assert triggered", "cuda-error", True),
        ("RuntimeError", "CUDA error: misaligned address", "cuda-error", True),
        ("RuntimeError", "CUDA driver error: an illegal memory access", "cuda-error", True),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "kernel-failed", True),
        # All others leave the process as it was.
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate", "out-of-memory", False),
        ("AcceleratorError", "CUDA error: out of memory", "out-of-memory", False),
        ("RuntimeError", "CUDA driver error: out of memory", "out-of-memory", False),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "out-of-memory", False),
        (
            *("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            *("out-of-memory", False),
        ),
        (
            *("RuntimeError", "GET was unable to find an engine to execute this computation"),
            *("cudnn-no-engine", False),
        ),
        ("RuntimeError", "CUDA error: invalid argument", "cuda-failed", False),
        (
            *(
                "RuntimeError",
                "CUDA error: no kernel image is available for execution on the device",
            ),
            *("no-kernel-image", False),
        ),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", "cuda-failed", False),
        ("NansException", "A tensor with all NaNs was produced in VAE.", "nans-drawn", False),
    ],
)
def test_only_a_lasting_error_asks_for_a_new_process(
    name: str, text: str, code: str, is_poisoned: bool
) -> None:
    response = Response(500, json.dumps(raised(name, errors=text)).encode())
    error = explain(response, JobRequest(Route("POST", "/sdapi/v1/txt2img"), {}, 60))
    assert (error.code, isinstance(error, PoisonedError)) == (code, is_poisoned)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"null", b'{"detail": [1]}'])
def test_any_answer_is_explained(body: bytes) -> None:
    request = JobRequest(Route("POST", "/sdapi/v1/txt2img"), {}, 60)
    assert str(explain(Response(422, body), request)).startswith("422")
