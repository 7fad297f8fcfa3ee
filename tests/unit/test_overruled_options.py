"""Options of a job that have no effect in this WebUI are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from tests.support import scripted_webui
from tests.support.releases import RELEASES, recorded
from tests.support.request_checks import make_context
from tests.support.scripted_webui import DRAWN, WebUI

VAES = ("mse.vae.pt", "ema.vae.pt")


@pytest.fixture(params=RELEASES)
def webui(request: pytest.FixtureRequest) -> Iterator[WebUI]:
    with scripted_webui.running(request.param) as running:
        rows = [{"model_name": name, "filename": f"/models/VAE/{name}"} for name in VAES]
        running.on("sd-vae", rows)
        running.on("cmd-flags", {"vae_path": None})
        running.on("txt2img", DRAWN)
        yield running


@pytest.fixture
def context(webui: WebUI, tmp_path: Path) -> JobContext:
    return make_context(webui.client, tmp_path)


def warnings_of(context: JobContext, **options: Any) -> list[str]:
    result = run_job({"input": {"prompt": "x", "override_settings": options}}, context)
    assert "error" not in result
    found: list[str] = result.get("warnings", [])
    return found


def test_a_vae_is_overruled_by_vae_path(webui: WebUI, context: JobContext) -> None:
    webui.on("cmd-flags", {"vae_path": "/models/VAE/ema.vae.pt"})
    for name in ("mse.vae.pt", "None"):
        [warning] = warnings_of(context, sd_vae=name)
        assert "sd_vae does nothing: the worker's flag --vae-path chooses ema.vae.pt" in warning


@pytest.mark.parametrize("name", ["ema.vae.pt", "Automatic"])
def test_the_vae_of_the_flag_needs_no_warning(webui: WebUI, context: JobContext, name: str) -> None:
    webui.on("cmd-flags", {"vae_path": "/models/VAE/ema.vae.pt"})
    assert warnings_of(context, sd_vae=name) == []


def test_a_vae_without_that_flag_needs_no_warning(context: JobContext) -> None:
    assert warnings_of(context, sd_vae="mse.vae.pt") == []


def test_an_axis_of_vaes_is_overruled_where_it_sets_the_option(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("cmd-flags", {"vae_path": "/models/VAE/ema.vae.pt"})
    rows = webui.routes["/sdapi/v1/script-info"](None)
    [labels] = [
        row["args"][0]["choices"]
        for row in rows
        if row["name"] == "x/y/z plot" and not row["is_img2img"]
    ]
    args = [labels.index("VAE"), "", ["MSE.vae.pt"], 0, "", [], 0, "", []]
    args += [True, False, False, False, False, False, False, 0, False]
    job = {"prompt": "x", "script_name": "x/y/z plot", "script_args": args}
    result = run_job({"input": job}, context)
    is_newest = rows is recorded(RELEASES[-1])["/sdapi/v1/script-info"]
    assert bool(result.get("warnings")) == is_newest


def test_a_vae_that_the_checkpoint_may_choose_itself_is_named(
    webui: WebUI, context: JobContext
) -> None:
    options = recorded(RELEASES[0])["/sdapi/v1/options"]
    webui.on("options", {**options, "sd_vae_overrides_per_model_preferences": False})
    [warning] = warnings_of(context, sd_vae="mse.vae.pt")
    assert "sd_vae may do nothing" in warning
    assert warnings_of(context, sd_vae="Automatic") == []


@pytest.mark.parametrize("name", ["fp8_storage", "cross_attention_optimization"])
def test_options_that_act_when_a_model_is_loaded_are_named(context: JobContext, name: str) -> None:
    [warning] = warnings_of(context, **{name: "Disable"})
    assert f"override_settings.{name} acts when a model is loaded" in warning


def test_options_that_the_api_cannot_set_are_named(context: JobContext) -> None:
    [warning] = warnings_of(context, api_enable_requests=False)
    assert "api_enable_requests does nothing: the API cannot set it" in warning


def test_a_lora_is_refused_where_the_extension_that_reads_it_is_off(
    webui: WebUI, context: JobContext
) -> None:
    webui.routes.pop("/sdapi/v1/loras")
    webui.on("refresh-loras", (404, {"detail": "Not Found"}))
    error = run_job({"input": {"prompt": "<lora:one:1>"}}, context)["error"]
    assert "there is no LoRA 'one'; this worker has none" in error


def test_no_job_reads_the_secrets_among_the_flags(webui: WebUI, context: JobContext) -> None:
    flags = {"api_auth": "user:word", "gradio_auth": "a:b", "ngrok": "token", "port": 3000}
    webui.on("cmd-flags", flags)
    result = run_job({"input": {"api": "cmd-flags"}}, context)
    assert result == {"api_auth": None, "gradio_auth": None, "ngrok": None, "port": 3000}
