"""One job from input to result, with a WebUI that answers as each test wants."""

from __future__ import annotations

import base64
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless import job_progress, webui_exchange
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from scripts.container.serverless.request.webui_facts import WebuiFacts
from tests.support import scripted_webui
from tests.support.releases import recorded
from tests.support.request_checks import make_context, place_weights
from tests.support.scripted_webui import DRAWN, IDLE, IMAGE, Route, WebUI
from tests.support.webui import png


def after(event: threading.Event) -> Route:
    """A picture that is there when something has happened, and not otherwise."""
    return lambda _: DRAWN if event.wait(20) else (500, {})


def set_and_answer(event: threading.Event) -> dict[str, Any]:
    event.set()
    return {}


@pytest.fixture
def webui() -> Iterator[WebUI]:
    with scripted_webui.running() as running:
        yield running


@pytest.fixture
def replaced() -> list[int]:
    return []


@pytest.fixture
def context(
    webui: WebUI, replaced: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JobContext:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return make_context(webui.client, tmp_path, replace_webui=lambda: replaced.append(1))


def test_the_webuis_answer_is_returned_unchanged(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", DRAWN)
    assert run_job({"id": "1", "input": {"prompt": "x"}}, context) == DRAWN
    assert webui.requests == [("/sdapi/v1/txt2img", {"prompt": "x"})]


def test_warnings_come_with_the_answer(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", DRAWN)
    result = run_job({"input": {"prompt": "x", "sampler": "Euler"}}, context)
    assert "sampler_name" in result["warnings"][0]


def test_an_input_without_any_field_of_the_route_draws_nothing(
    webui: WebUI, context: JobContext
) -> None:
    result = run_job({"input": {"promt": "a lighthouse", "foo": 1}}, context)
    assert "input has no field of txt2img - promt is not a field" in result["error"]
    assert "did you mean prompt?" in result["error"]
    assert not webui.requests


def test_a_list_is_wrapped_because_runpod_wants_an_object(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("sd-models", [{"title": "m"}])
    assert run_job({"input": {"api": "sd-models"}}, context) == {"answer": [{"title": "m"}]}


@pytest.mark.parametrize(
    "job", [{}, {"input": None}, {"id": 3, "input": 4}, {"input": {"steps": "many"}}]
)
def test_an_invalid_job_sends_no_request(
    webui: WebUI, context: JobContext, job: dict[str, Any]
) -> None:
    assert "input" in run_job(job, context)["error"]
    assert webui.requests == []


def test_the_webuis_error_message_is_returned(webui: WebUI, context: JobContext) -> None:
    error = {"error": "HTTPException", "detail": "Sampler not found", "body": "", "errors": ""}
    webui.on("txt2img", (404, error))
    result = run_job({"input": {}}, context)
    assert "Sampler not found" in result["error"]
    assert "refresh_worker" not in result


def test_a_cuda_error_asks_for_a_new_worker(webui: WebUI, context: JobContext) -> None:
    message = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"
    webui.on("txt2img", (500, {"error": "RuntimeError", "detail": "", "errors": message}))
    result = run_job({"input": {}}, context)
    assert result["refresh_worker"] is True
    assert "[cuda-error]" in result["error"]


def test_a_job_that_quotes_a_cuda_error_replaces_nothing(webui: WebUI, context: JobContext) -> None:
    name = "CUDA error: an illegal memory access was encountered"
    webui.on("txt2img", (500, {"error": "KeyError", "detail": "", "errors": f"'{name}'"}))
    result = run_job({"input": {"prompt": name}}, context)
    assert name in result["error"]
    assert "refresh_worker" not in result


def test_out_of_gpu_memory_fails_one_job_only(webui: WebUI, context: JobContext) -> None:
    message = "CUDA out of memory. Tried to allocate 2.00 GiB."
    webui.on("txt2img", (500, {"error": "OutOfMemoryError", "detail": "", "errors": message}))
    result = run_job({"input": {}}, context)
    assert "[out-of-memory]" in result["error"]
    assert "smaller" in result["error"]
    assert "refresh_worker" not in result


CUT = base64.b64encode(png(64, 64, 1)[:200]).decode()


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"<html>502</html>", "no JSON"),
        (b'{"images": [', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        ({"images": []}, "no images"),
        ({"images": None}, "no images"),
        ({"picture": IMAGE}, "no images"),
        ([], "no images"),
        ({"images": ["nonsense"]}, "cut off, or not PNG"),
        ({"images": ["ü"]}, "not base64"),
        ({"images": [None]}, "cut off, or not PNG"),
        ({"images": [IMAGE, CUT]}, "cut off, or not PNG"),
    ],
)
def test_an_invalid_answer_is_never_returned_as_an_image(
    webui: WebUI, context: JobContext, answer: Any, content: str
) -> None:
    webui.on("txt2img", answer)
    result = run_job({"input": {}}, context)
    assert content in result["error"]
    assert "[answer-garbage]" in result["error"]


def test_no_images_are_valid_where_none_are_requested(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", {"images": [], "info": "{}"})
    assert run_job({"input": {"send_images": False}}, context)["images"] == []


def test_a_webui_that_dies_is_an_error(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", lambda _: None)
    result = run_job({"input": {}}, context)
    assert "[webui-died]" in result["error"]


def test_a_job_over_its_time_limit_is_interrupted(
    webui: WebUI, context: JobContext, replaced: list[int]
) -> None:
    stopped = threading.Event()
    webui.on("txt2img", after(stopped))
    webui.on("interrupt", lambda _: set_and_answer(stopped))
    began = time.monotonic()
    result = run_job({"input": {"timeout": 1}}, context)
    assert "[job-timeout]" in result["error"]
    assert "1 s" in result["error"]
    assert time.monotonic() - began < 10
    assert stopped.is_set()
    assert not replaced


def endless_answer() -> Iterator[bytes]:
    """An answer that goes on for ever, never silent for long."""
    while True:
        time.sleep(0.02)
        yield b" "


def test_an_endless_answer_ends_at_the_time_limit(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", lambda _: endless_answer())
    began = time.monotonic()
    assert "[job-timeout]" in run_job({"input": {"timeout": 1}}, context)["error"]
    assert time.monotonic() - began < 5


def test_an_answer_over_the_size_limit_is_not_read_further(
    webui: WebUI, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.common.webui_client.MAX_BODY", 1_000_000)
    webui.on("txt2img", lambda _: itertools.repeat(b"[" * 1000))
    assert "[answer-garbage]" in run_job({"input": {}}, context)["error"]


def test_an_incomplete_answer_means_the_webui_died(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", DRAWN)
    webui.missing = 1
    assert "[webui-died]" in run_job({"input": {}}, context)["error"]


def test_a_webui_that_ignores_the_interrupt_is_replaced(
    webui: WebUI, context: JobContext, replaced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webui_exchange, "_INTERRUPT_TIME", 0.2)
    never = threading.Event()
    webui.on("txt2img", after(never))
    webui.on("progress", {**IDLE, "state": {"job_count": 1}})
    assert "[job-timeout]" in run_job({"input": {"timeout": 1}}, context)["error"]
    assert replaced
    never.set()


def test_progress_is_reported_while_an_image_is_drawn(
    webui: WebUI, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_progress, "_INTERVAL", 0.01)
    reported = threading.Event()
    reports: list[dict[str, Any]] = []

    def report(_: Any, progress: dict[str, Any]) -> None:
        reports.append(progress)
        reported.set()

    state = {"job_count": 1, "sampling_step": 7, "sampling_steps": 20}
    webui.on("progress", {"progress": 0.35, "eta_relative": 2.04, "state": state})
    webui.on("txt2img", after(reported))
    result = run_job({"input": {}}, replace(context, report_progress=report))
    assert result == DRAWN
    assert reports[0] == {"progress": 0.35, "step": 7, "steps": 20, "eta_seconds": 2.0}


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (None, {}),
        ("iVBORw0KGgo", {"preview": "iVBORw0KGgo"}),
        ("i" * 900_001, {"preview_left_out": "900001 characters, the limit is 900000"}),
    ],
)
def test_a_preview_comes_once_where_it_is_asked_for(
    webui: WebUI,
    context: JobContext,
    monkeypatch: pytest.MonkeyPatch,
    image: str | None,
    shown: dict[str, Any],
) -> None:
    monkeypatch.setattr(job_progress, "_INTERVAL", 0.01)
    thrice = threading.Semaphore(0)
    reports: list[dict[str, Any]] = []

    def report(_: Any, progress: dict[str, Any]) -> None:
        reports.append(progress)
        if len(reports) == 3:
            thrice.release()

    state = {"job_count": 1, "sampling_step": 7, "sampling_steps": 20}
    answer = {"progress": 0.35, "eta_relative": 2.04, "state": state, "current_image": image}
    webui.on("progress", answer)
    webui.on("txt2img", lambda _: thrice.acquire() and DRAWN)
    given = {"input": {"prompt": "x", "previews": True}}
    assert run_job(given, replace(context, report_progress=report)) == DRAWN
    usual = {"progress": 0.35, "step": 7, "steps": 20, "eta_seconds": 2.0}
    assert reports[:3] == [usual | shown, usual, usual]
    assert run_job({"input": {"previews": "yes"}}, context)["error"].startswith("previews must be")


def test_options_changed_by_a_failed_job_are_restored(webui: WebUI, context: JobContext) -> None:
    options = {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}

    def draw(_: Any) -> Any:
        options["CLIP_stop_at_last_layers"] = 2
        return (500, {"error": "RuntimeError", "errors": "interrupted", "detail": ""})

    def get_or_set(changes: Any) -> Any:
        options.update(changes or {})
        return options

    webui.on("txt2img", draw)
    webui.on("options", get_or_set)
    job = {"input": {"override_settings": {"CLIP_stop_at_last_layers": 2}}}
    assert "interrupted" in run_job(job, context)["error"]
    assert options == {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}


def test_whole_numbers_of_options_stay_whole(webui: WebUI, context: JobContext) -> None:
    # The WebUI answers with 2.0 for 2, and fails to draw when it is set to 2.0.
    options: dict[str, Any] = {"CLIP_stop_at_last_layers": 2.0, "eta_ancestral": 0.5}
    set_to: list[str] = []

    def get_or_set(changes: Any) -> Any:
        options.update(changes or {})
        set_to.append(repr(changes))
        return options

    webui.on("options", get_or_set)
    run_job({"input": {"api": "options", "CLIP_stop_at_last_layers": 3.0}}, context)
    assert "{'CLIP_stop_at_last_layers': 3}" in set_to
    assert "{'CLIP_stop_at_last_layers': 2}" in set_to


def test_options_that_a_job_sets_end_with_it(webui: WebUI, context: JobContext) -> None:
    options = {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}
    seen: list[object] = []

    def get_or_set(changes: Any) -> Any:
        options.update(changes or {})
        seen.append(options["CLIP_stop_at_last_layers"])
        return options

    webui.on("options", get_or_set)
    result = run_job({"input": {"api": "options", "CLIP_stop_at_last_layers": 2}}, context)
    assert 2 in seen
    assert options["CLIP_stop_at_last_layers"] == 1
    assert "override_settings" in result["warnings"][0]


def test_a_checkpoint_that_a_job_unloads_is_loaded_again(webui: WebUI, context: JobContext) -> None:
    webui.on("unload-checkpoint", {})
    result = run_job({"input": {"api": "unload-checkpoint"}}, context)
    assert webui.paths() == ["unload-checkpoint", "reload-checkpoint"]
    assert "loaded again" in result["warnings"][0]


def test_facts_are_read_once_for_each_process_of_the_webui(
    webui: WebUI, context: JobContext
) -> None:
    asked: list[str] = []
    description = recorded("v1.10.1")["/openapi.json"]

    def describe(_: Any) -> Any:
        asked.append("/openapi.json")
        return description

    webui.routes["/openapi.json"] = describe
    webui.on("txt2img", DRAWN)
    processes = iter((1, 1, 2, 2, 3))
    context = replace(context, facts=WebuiFacts(webui.client, lambda: next(processes)))
    for _ in range(5):
        assert run_job({"input": {"prompt": "x"}}, context) == DRAWN
    assert len(asked) == 3


def test_a_jobs_input_is_left_as_it_was_sent(webui: WebUI, context: JobContext) -> None:
    webui.on("img2img", DRAWN)
    given = {"init_images": [f"data:image/png;base64,{IMAGE}"], "override_settings": {"a": None}}
    before = repr(given)
    run_job({"input": given}, context)
    assert repr(given) == before


def test_options_are_not_read_for_jobs_without_settings(webui: WebUI, context: JobContext) -> None:
    webui.on("txt2img", DRAWN)
    run_job({"input": {}}, context)
    assert webui.paths() == ["txt2img"]


def test_extras_return_one_image(webui: WebUI, context: JobContext) -> None:
    webui.on("extra-single-image", {"html_info": "", "image": IMAGE})
    result = run_job({"input": {"api": "extras", "image": IMAGE}}, context)
    assert result["image"] == IMAGE


@pytest.mark.parametrize(("caption", "failed"), [("a lighthouse", False), ("a <error>", True)])
def test_an_error_as_caption_is_an_error(
    webui: WebUI, context: JobContext, tmp_path: Path, caption: str, failed: bool
) -> None:
    place_weights(tmp_path, "interrogator", "clip")
    webui.on("interrogate", {"caption": caption})
    result = run_job({"input": {"api": "interrogate", "image": IMAGE}}, context)
    assert ("[not-described]" in result.get("error", "")) == failed
    assert failed or result == {"caption": caption}


def test_a_worker_that_is_not_ready_gives_the_reason(context: JobContext) -> None:
    def never(_: float) -> None:
        raise UserError("the WebUI is not ready: the model did not load", code="not-ready")

    result = run_job({"input": {}}, replace(context, wait_until_ready=never))
    assert "the model did not load" in result["error"]
