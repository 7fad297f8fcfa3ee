"""Jobs may name the image's own checkpoint by its file's name, as in images that list it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from scripts.container.settings import VARIABLES
from tests.support import scripted_webui
from tests.support.releases import RELEASES
from tests.support.request_checks import make_context
from tests.support.scripted_webui import DRAWN, WebUI

NAME = "art/photo.safetensors"
ALIASES = ("model.safetensors", "model", "model.safetensors [0123456789]")


@pytest.fixture(params=RELEASES)
def webui(request: pytest.FixtureRequest) -> Iterator[WebUI]:
    with scripted_webui.running(request.param) as running:
        running.on("txt2img", DRAWN)
        running.on("options", {})
        running.on("refresh-checkpoints", {})
        yield running


@pytest.fixture
def context(webui: WebUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobContext:
    baked = tmp_path / "model.safetensors"
    variable = replace(VARIABLES["MODEL_PATH"], default=str(baked))
    monkeypatch.setitem(VARIABLES, "MODEL_PATH", variable)
    link = tmp_path / NAME
    link.parent.mkdir()
    link.symlink_to(baked)
    list_checkpoints(webui, link)
    return make_context(webui.client, tmp_path, own_checkpoint=NAME)


def list_checkpoints(webui: WebUI, *files: Path) -> None:
    webui.on(
        "sd-models",
        [
            {
                "title": NAME if file.parent.name == "art" else file.name,
                "model_name": file.stem,
                "hash": None,
                "sha256": None,
                "filename": str(file),
                "config": None,
            }
            for file in files
        ],
    )


def sent(webui: WebUI, fields: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Run a job; return what the WebUI was sent."""
    result = run_job({"input": fields}, context)
    assert "error" not in result, result
    assert "warnings" not in result
    body: dict[str, Any] = dict(webui.requests)["/sdapi/v1/txt2img"]
    return body


@pytest.mark.parametrize("alias", ALIASES)
def test_fields_of_a_job_get_the_listed_name(webui: WebUI, context: JobContext, alias: str) -> None:
    fields = {
        "override_settings": {"sd_model_checkpoint": alias},
        "refiner_checkpoint": alias,
        "enable_hr": True,
        "hr_checkpoint_name": alias,
        "denoising_strength": 0.5,
    }
    body = sent(webui, fields, context)
    assert body["override_settings"]["sd_model_checkpoint"] == NAME
    assert (body["refiner_checkpoint"], body["hr_checkpoint_name"]) == (NAME, NAME)


def test_another_checkpoint_keeps_the_files_name(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    list_checkpoints(webui, tmp_path / NAME, tmp_path / "other/model.safetensors")
    fields = {"override_settings": {"sd_model_checkpoint": "model.safetensors"}}
    assert sent(webui, fields, context) == fields


def test_a_checkpoint_of_the_name_that_is_not_the_images_own_is_not_used(
    context: JobContext, tmp_path: Path
) -> None:
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(tmp_path / "volume.safetensors")
    fields = {"override_settings": {"sd_model_checkpoint": "model.safetensors"}}
    error = run_job({"input": fields}, context)["error"]
    assert "there is no checkpoint 'model.safetensors'; there are: art/photo.safetensors" in error
