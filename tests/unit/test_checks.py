"""Checks of API and GPU, against recorded answers, and how a check becomes a result."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from scripts.common.checks.api_checks import (
    AFTER_JOBS_CHECKS,
    JOB_CHECKS,
    ApiSubject,
)
from scripts.common.checks.api_requests import wait_for_api
from scripts.common.checks.check import (
    CheckResult,
    CheckSkipped,
    CommandError,
    Prerequisite,
    check,
    judge,
)
from scripts.common.checks.gpu_checks import GPU_CHECKS, GpuSubject
from scripts.common.checks.option_checks import OptionSubject, has_configured_options
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.judge import LEFT_OVER, Judgement
from scripts.common.webui_client import Response, WebuiClient
from scripts.host.config.load import ROOT
from tests.support.errors import user_error
from tests.support.smoke_reports import png
from tests.support.webui import png as noise

OPTIONS = {"sd_model_checkpoint": "model.safetensors [0123456789]"}
INFO = {"infotexts": ["Steps: 1, Version: v1.9.3"], "sd_model_name": "model"}


def drawn(image: bytes, **info: object) -> dict[str, Any]:
    """Return the WebUI's answer with an image."""
    return {"images": [base64.b64encode(image).decode()], "info": json.dumps({**INFO, **info})}


@dataclass(frozen=True)
class RecordedClient(WebuiClient):
    """A client whose requests are answered by values, statuses with values, errors or functions."""

    url: str = "http://worker"
    answers: dict[str, Any] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: object = None, *, timeout: float = 10.0
    ) -> Response:
        assert timeout > 0
        assert method == ("GET" if body is None else "POST")
        answer = self.answers.get(path.rpartition("/")[2], (404, {}))
        answer = answer(body) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        return Response(status, json.dumps(value).encode())


def txt2img(body: Any) -> Any:
    return drawn(noise(64, 64, 1)) if body["width"] == 64 else (422, {"detail": "no number"})


def subject(kept: list[str] | None = None, **answers: Any) -> ApiSubject:
    """Return a worker that does all right, but for some answers."""
    usual = {
        "sd-models": [{"title": "model.safetensors [0123456789]"}],
        "options": OPTIONS,
        "txt2img": txt2img,
        "img2img": drawn(noise(64, 64, 2)),
        "memory": {"cuda": {"system": {"used": 10**9}}},
    }
    return ApiSubject(
        RecordedClient(answers={**usual, **answers}),
        image_size=64,
        steps=1,
        release="v1.9.3",
        checkpoint="model.safetensors",
        keep=lambda name, _: (kept if kept is not None else []).append(name),
    )


def test_a_sound_worker_passes_and_its_images_are_kept() -> None:
    kept: list[str] = []
    worker = subject(kept)
    results = [each.run(worker) for each in (*JOB_CHECKS, *AFTER_JOBS_CHECKS)]
    assert [(each.name, each.evidence) for each in results if each.outcome != "passed"] == []
    assert all(each.evidence for each in results)
    assert kept == ["txt2img", "img2img"]


def alternating(*images: bytes) -> Callable[[Any], Any]:
    """Answer with one image after the other."""
    remaining = [drawn(image) for image in images]
    return lambda _: remaining.pop(0)


OTHER = {"title": "other.safetensors"}


@pytest.mark.parametrize(
    ("answers", "name", "code"),
    [
        ({"sd-models": [OTHER]}, "checkpoint_is_listed", "model-not-loaded"),
        (
            {"sd-models": [OTHER], "options": {"sd_model_checkpoint": "other.safetensors"}},
            "checkpoint_is_listed",
            "model-not-loaded",
        ),
        ({"options": {}}, "checkpoint_is_listed", "model-not-loaded"),
        ({"txt2img": drawn(noise(32, 64, 1))}, "draws_an_image", "picture-size"),
        ({"txt2img": drawn(png())}, "draws_an_image", "picture-flat"),
        ({"txt2img": drawn(noise(64, 64, 1)[:-20])}, "draws_an_image", "picture-broken"),
        ({"txt2img": {"images": ["?"]}}, "draws_an_image", "picture-broken"),
        ({"txt2img": {"images": []}}, "draws_an_image", "not-drawn"),
        (
            {"txt2img": (500, {"errors": "CUDA error: out of memory"})},
            "draws_an_image",
            "out-of-memory",
        ),
        ({"txt2img": ConnectionResetError()}, "draws_an_image", "webui-died"),
        ({"txt2img": ConnectionRefusedError()}, "draws_an_image", "port-closed"),
        ({"txt2img": (401, {})}, "draws_an_image", "api-locked"),
        (
            {"txt2img": drawn(noise(64, 64, 1), infotexts=["Version: v1.8.0"])},
            "configured_release",
            "labels-wrong",
        ),
        (
            {"txt2img": drawn(noise(64, 64, 1), sd_model_name="other")},
            "chosen_checkpoint",
            "model-not-loaded",
        ),
        ({"txt2img": {**drawn(png()), "info": "?"}}, "chosen_checkpoint", "model-not-loaded"),
        (
            {"txt2img": alternating(noise(64, 64, 1), noise(64, 64, 2))},
            "same_seed",
            "not-repeatable",
        ),
        ({"img2img": drawn(png())}, "img2img", "picture-flat"),
        ({"txt2img": drawn(noise(64, 64, 1))}, "invalid_request", "not-drawn"),
    ],
)
def test_a_fault_fails_its_check_with_its_code(
    answers: dict[str, Any], name: str, code: str
) -> None:
    [checked] = [each for each in JOB_CHECKS if name in str(each)]
    result = checked.run(subject(**answers))
    assert (result.outcome, result.code) == ("failed", code), result.evidence


def test_what_the_api_does_not_report_is_skipped() -> None:
    worker = subject(txt2img={**drawn(png()), "info": "?"}, memory=(404, {}))
    results = [each.run(worker) for each in (*JOB_CHECKS, *AFTER_JOBS_CHECKS)]
    skipped = [each.name for each in results if each.outcome == "skipped"]
    assert skipped == [
        "the WebUI is the configured release",
        "GPU memory is free again after the jobs",
    ]


def test_an_image_that_names_no_release_has_any() -> None:
    worker = subject()
    worker.release = ""
    [checked] = [each for each in JOB_CHECKS if "configured_release" in str(each)]
    assert checked.run(worker).outcome == "skipped"


def test_memory_that_jobs_leave_behind_is_found() -> None:
    used = [10**9, 10**9 + LEFT_OVER + 1]
    worker = subject(memory=lambda _: {"cuda": {"system": {"used": used.pop(0)}}})
    [result] = [each.run(worker) for each in AFTER_JOBS_CHECKS]
    assert (result.outcome, result.code) == ("failed", "gpu-memory-kept")


@pytest.mark.parametrize(
    ("answer", "code"), [((401, {}), "api-locked"), (ConnectionResetError(), "port-closed")]
)
def test_waiting_for_an_api_that_does_not_answer_ends(answer: Any, code: str) -> None:
    error = user_error(wait_for_api, RecordedClient(answers={"sd-models": answer}), 0.01)
    assert error.code == code


DRIVER = json.dumps(
    {
        "version": "570.1",
        "cuda": [12, 8],
        "gpus": [{"name": "RTX", "capability": [8, 9], "total": 10**10}],
    }
)
KERNELS = {
    name: {"float16": 0.001, "bfloat16": 0.01} for name in ("matmul", "convolution", "attention")
}
TORCH = {
    "version": "2.7.0",
    "cuda": "12.8",
    "cudnn": 90701,
    "archs": ["sm_86"],
    "devices": [{"name": "RTX", "capability": [8, 9], "memory": 10**10}],
    "kernels": KERNELS,
}


def gpu_subject(**torch: Any) -> GpuSubject:
    """Return a worker whose GPU does all right, but for some facts of torch."""

    def run(*command: str) -> str:
        return DRIVER if "-m" in command else json.dumps({**TORCH, **torch})

    return GpuSubject(run, lambda: "Applying attention optimization: xformers... done.")


def test_a_sound_gpu_passes() -> None:
    worker = gpu_subject()
    results = [each.run(worker) for each in GPU_CHECKS]
    assert [(each.name, each.evidence) for each in results if each.outcome != "passed"] == []
    assert [gpu.name for gpu in worker.devices] == ["RTX"]


@pytest.mark.parametrize(
    ("torch", "codes"),
    [
        ({"archs": ["sm_90"]}, {"no-kernel-image"}),
        ({"cudnn": 8902}, {"cudnn-too-old"}),
        ({"kernels": {**KERNELS, "matmul": {"float16": 0.5}}}, {"kernel-failed"}),
        ({"kernels": {**KERNELS, "attention": {"float16": 0.5}}}, {"xformers-mismatch"}),
        ({"error": "ImportError: libcudart"}, {"torch-broken"}),
    ],
)
def test_a_fault_of_torch_fails_with_its_code(torch: dict[str, Any], codes: set[str]) -> None:
    worker = gpu_subject(**torch)
    results = [each.run(worker) for each in GPU_CHECKS]
    assert [each.code for each in results if each.outcome == "failed"] == list(codes)


def test_a_newer_gpu_is_expected_to_use_torchs_attention() -> None:
    device = {"name": "RTX", "capability": [12, 0], "memory": 10**10}
    worker = gpu_subject(devices=[device], archs=["sm_120"])
    results = {str(each): each.run(worker) for each in GPU_CHECKS[1:]}
    assert results["attention_by_xformers_is_correct"].outcome == "skipped"
    assert results["the_WebUI_uses_the_expected_attention"].code == "xformers-mismatch"


def raising(error: Exception) -> Callable[[None], Judgement]:
    def examine(_: None) -> Judgement:
        raise error

    return examine


@pytest.mark.parametrize(
    ("error", "outcome", "evidence", "code"),
    [
        (CheckSkipped("no GPU"), "skipped", "no GPU", ""),
        (UserError("it broke"), "failed", "it broke", "not-ready"),
        (UserError("it died", code="webui-died"), "failed", "it died", "webui-died"),
        (CommandError("a\nlast line\n"), "failed", "last line", "not-ready"),
        (KeyError("info"), "failed", "KeyError: 'info'", "not-ready"),
    ],
)
def test_what_a_check_raises_becomes_its_result(
    error: Exception, outcome: str, evidence: str, code: str
) -> None:
    result = check("becomes ready", "not-ready")(raising(error)).run(None)
    assert (result.outcome, result.evidence, result.code) == (outcome, evidence, code)
    assert result.excerpt == getattr(error, "output", "")


def test_a_passed_check_has_no_code() -> None:
    def examine(_: None) -> Judgement:
        return judge("after 2 s")

    result = check("becomes ready", "not-ready")(examine).run(None)
    assert (result.outcome, result.evidence, result.code) == ("passed", "after 2 s", "")


def test_a_failed_prerequisite_fails_once_and_then_skips() -> None:
    calls = []

    def create() -> None:
        calls.append(1)
        raise UserError("no API")

    needed = Prerequisite(create)
    with pytest.raises(UserError, match="no API"):
        needed.get()
    with pytest.raises(CheckSkipped, match="no API"):
        needed.get()
    assert calls == [1]


def test_each_code_of_a_check_is_in_the_table() -> None:
    files = [*(ROOT / "tests/smoke").glob("*.py"), *(ROOT / "scripts/common/checks").glob("*.py")]
    text = "".join(path.read_text() for path in files)
    codes = set(re.findall(r'(?:(?:@check|layers_obey)\("[^"]+", |code=)"([a-z0-9-]+)"', text))
    assert len(codes) > 20
    assert codes <= set(diagnostics())


def test_checks_import_nothing_that_the_worker_lacks() -> None:
    modules = ("api_checks", "gpu_checks", "smoke_report")
    code = f"""import sys
from scripts.common.checks import {", ".join(modules)}
print({{"PIL", "docker", "pytest", "yaml", "jinja2", "rich"}} & {{*sys.modules}})"""
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout == "set()\n"


DESCRIBED = {"CLIP_stop_at_last_layers": 1, "samples_format": "png", "tiling": False, "hide": []}


def options_result(wanted: dict[str, Any], **answers: Any) -> CheckResult:
    """Check options of a WebUI that has those above, and one without a default."""
    rows = {name: {"default": value} for name, value in DESCRIBED.items()} | {"upscaler": {}}
    rows["CLIP_stop_at_last_layers"]["description"] = "Clip skip"
    usual = {
        "openapi.json": {"components": {"schemas": {"Options": {"properties": rows}}}},
        "options": {**DESCRIBED, "upscaler": None, **wanted},
    }
    client = RecordedClient(answers={**usual, **answers})
    return has_configured_options.run(OptionSubject(client, wanted))


def test_options_of_config_that_the_webui_has_pass() -> None:
    wanted = {"CLIP_stop_at_last_layers": 2.5, "tiling": True, "upscaler": "x", "hide": ["a"]}
    result = options_result(wanted)
    assert (result.outcome, result.evidence) == ("passed", ", ".join(wanted))
    assert options_result({}).outcome == "skipped"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"clip_stop_at_last_layer": 2}, "no option clip_stop_at_last_layer; near it: CLIP_stop"),
        ({"clip_skip": 2}, "no option clip_skip; near it: CLIP_stop_at_last_layers"),
        ({"unlike_any": 2}, "no option unlike_any"),
        ({"CLIP_stop_at_last_layers": "2"}, "is '2', not a number such as 1"),
        ({"CLIP_stop_at_last_layers": True}, "is True, not a number such as 1"),
        ({"tiling": 1}, "is 1, not true or false such as False"),
        ({"samples_format": ["png"]}, "not text such as 'png'"),
        ({"hide": "a"}, "is 'a', not a list such as []"),
    ],
)
def test_an_option_that_is_unknown_or_mistyped_fails(wanted: dict[str, Any], reason: str) -> None:
    result = options_result(wanted)
    assert (result.outcome, result.code) == ("failed", "option-invalid")
    assert reason in result.evidence


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"options": {**DESCRIBED, "tiling": False}}, "tiling is False in the WebUI, not True"),
        ({"options": (500, {"error": "ValidationError"})}, "answered 500 ValidationError"),
        ({"openapi.json": (404, {})}, "does not describe its options, but answered 404"),
        ({"openapi.json": []}, "does not describe its options"),
    ],
)
def test_a_webui_without_the_configured_value_fails(answers: dict[str, Any], reason: str) -> None:
    result = options_result({"tiling": True}, **answers)
    assert (result.outcome, result.code) == ("failed", "option-invalid")
    assert reason in result.evidence


def test_options_of_extensions_are_not_checked_where_there_are_any() -> None:
    wanted = {"control_net_unit_count": 5, "tiling": True}
    extensions = [{"name": "sd-webui-controlnet"}]
    assert options_result(wanted, extensions=extensions).outcome == "passed"
    assert options_result(wanted, extensions=[]).outcome == "failed"
    assert options_result({"clip_skp": 2}, extensions=extensions).outcome == "failed"
    assert options_result({"tiling": 1}, extensions=extensions).outcome == "failed"
