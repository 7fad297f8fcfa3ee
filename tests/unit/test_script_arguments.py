"""Test that names in arguments of A1111's own scripts are checked before anything is drawn.

The controls of the scripts are those that A1111 v1.9.3 and v1.10.1 answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from scripts.container.status.log_findings import find_in_line
from tests.support import scripted_webui
from tests.support.releases import RELEASES, recorded
from tests.support.request_checks import make_context, place_weights
from tests.support.scripted_webui import DRAWN, IMAGE, WebUI

CHECKPOINT = {
    "title": "sub/anime.safetensors",
    "model_name": "sub_anime",
    "hash": None,
    "sha256": None,
    "filename": "/models/Stable-diffusion/sub/anime.safetensors",
    "config": None,
}
STYLES = [
    {"name": "cinema", "prompt": "film", "negative_prompt": ""},
    {"name": "broken", "prompt": "<lora:gone:1>", "negative_prompt": ""},
]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def webui(release: str) -> Iterator[WebUI]:
    with scripted_webui.running(release) as running:
        running.on("sd-models", [CHECKPOINT])
        running.on("sd-vae", [{"model_name": "Mse.vae.pt", "filename": "/models/VAE/Mse.vae.pt"}])
        running.on("loras", [{"name": "one", "alias": "one", "path": "/l/one", "metadata": {}}])
        running.on("prompt-styles", STYLES)
        for route in ("refresh-checkpoints", "refresh-vae", "refresh-loras"):
            running.on(route, {})
        for route in ("txt2img", "img2img"):
            running.on(route, DRAWN)
        yield running


@pytest.fixture
def context(webui: WebUI, tmp_path: Path) -> JobContext:
    return make_context(webui.client, tmp_path)


def find_controls(release: str, name: str, tab: str = "txt2img") -> list[dict[str, Any]]:
    rows = recorded(release)["/sdapi/v1/script-info"]
    is_img2img = tab == "img2img"
    [row] = [row for row in rows if (row["name"], row["is_img2img"]) == (name, is_img2img)]
    controls: list[dict[str, Any]] = row["args"]
    return controls


def plot(release: str, label: str, values: Any, *, text: bool = False, **fields: Any) -> Any:
    """Return a job that varies one thing along X, chosen from lists or given as text."""
    labels = find_controls(release, "x/y/z plot")[0]["choices"]
    x = [labels.index(label), values if text else "", [] if text else values]
    flags = [True, False, False, False, False, False, False, 0, text]
    given = {"prompt": "a cat", "script_name": "X/Y/Z plot", **fields}
    return {"input": {**given, "script_args": [*x, 0, "", [], 0, "", [], *flags]}}


REFUSED = [
    ("Sampler", ["Euler", "Eulr"], {}, "there is no sampler 'Eulr'; there are: Euler"),
    ("Sampler", ["euler"], {}, "'euler'"),  # the script takes it, and the cell fails
    ("Checkpoint name", ["photo"], {}, "there is no checkpoint 'photo'; there are: sub/anime"),
    ("Refiner checkpoint", ["None", "photo"], {}, "there is no checkpoint 'photo'"),
    ("Schedule type", ["Karas"], {}, "there is no scheduler 'Karas'; there are: Karras"),
    ("VAE", ["None", "ema.vae.pt"], {}, "there is no VAE 'ema.vae.pt'; there are: Mse.vae.pt"),
    ("Styles", ["cinema,cinemaa"], {}, "there is no style 'cinemaa'; there are: cinema"),
    ("Styles", ["broken"], {}, "there is no LoRA 'gone'"),
    ("RNG source", ["CPU", "cpu"], {}, "RNG source is one of GPU, CPU, NV, not 'cpu'"),
    ("SGM noise multiplier", ["yes"], {}, "is one of True, False, not 'yes'"),
    ("Sampler", [], {}, "takes its values as a list"),
    ("Sampler", "Euler", {}, "takes its values as a list"),
    ("Hires upscaler", ["4x-Gone"], {"enable_hr": True}, "there is no hires upscaler '4x-Gone'"),
    ("Hires sampler", ["Eulr"], {"enable_hr": True}, "there is no sampler 'Eulr'"),
]
REFUSED_TEXTS = [
    ("Size", "64x64, 64*96", "Size is such as 512x768, not '64*96'"),
    ("Seed", "", "takes its values as a text"),
    ("Face restore", "false, restoreformer", "is CodeFormer, GFPGAN, true or false"),
    ("Face restore", "GFPGAN", "the WebUI would restore with 'CodeFormer' instead"),
    ("Prompt S/R", "dog, bird", "finds 'dog' neither in the prompt nor in the negative prompt"),
    ("Prompt S/R", "cat, <lora:gone:1>", "there is no LoRA 'gone'"),
    ("Sampler", "Euler, Eulr", "there is no sampler 'Eulr'"),
]
DRAWN_PLOTS = [
    ("Seed", "1-3", True),
    ("Steps", "1, 2", True),
    ("Sampler", ["Euler", "DPM++ 2M"], False),
    ("Sampler", "Euler, DPM++ 2M", True),
    ("Checkpoint name", ["anime"], False),  # a part of the title will do
    ("VAE", ["auto", "none", "mse.VAE.pt"], False),
    ("Refiner checkpoint", ["None", "anime"], False),
    ("Styles", ["cinema", "cinema,broken"], False),
    ("Prompt S/R", "cat, dog <lora:one:0.5>", True),
    ("Size", "64x64, 64 x 72", True),
    ("Face restore", "false, no", True),
    ("SGM noise multiplier", ["True", "false"], False),
]


@pytest.mark.parametrize(("label", "values", "fields", "message"), REFUSED)
def test_a_name_on_an_axis_that_is_not_there_fails_before_it_is_drawn(
    webui: WebUI,
    context: JobContext,
    release: str,
    label: str,
    values: Any,
    fields: dict[str, Any],
    message: str,
) -> None:
    error = run_job(plot(release, label, values, **fields), context)["error"]
    assert message in error
    assert "script_args[2]" in error or "styles (broken)" in error
    assert "txt2img" not in webui.paths()


@pytest.mark.parametrize(("label", "text", "message"), REFUSED_TEXTS)
def test_a_text_on_an_axis_is_checked_as_the_script_reads_it(
    webui: WebUI, context: JobContext, release: str, label: str, text: str, message: str
) -> None:
    error = run_job(plot(release, label, text, text=True), context)["error"]
    assert message in error
    assert "script_args[1]" in error
    assert "txt2img" not in webui.paths()


@pytest.mark.parametrize(("label", "values", "text"), DRAWN_PLOTS)
def test_what_a_plot_can_draw_is_sent_as_it_is(
    webui: WebUI, context: JobContext, release: str, label: str, values: Any, *, text: bool
) -> None:
    webui.on("prompt-styles", [{**row, "prompt": ""} for row in STYLES])
    job = plot(release, label, values, text=text)
    result = run_job(job, context)
    assert "error" not in result
    [body] = [body for path, body in webui.requests if path.endswith("txt2img")]
    assert body["script_args"] == job["input"]["script_args"]


def test_a_part_of_a_vaes_name_will_do_before_v1_10(context: JobContext, release: str) -> None:
    result = run_job(plot(release, "VAE", ["mse"]), context)
    assert ("error" in result) == (release == "v1.10.1")


def test_replacements_of_several_axes_follow_each_other(context: JobContext, release: str) -> None:
    job = plot(release, "Prompt S/R", "LOOK, <lora:NAME:1>", text=True, prompt="one NAME LOOK")
    args = job["input"]["script_args"]
    args[3:5] = [args[0], "NAME, gone"]
    assert "there is no LoRA 'NAME'" in run_job(job, context)["error"]
    args[1] = "LOOK, <lora:one:NAME>"
    args[4] = "NAME, 1, strong"
    assert "'NAME' is no number" in run_job(job, context)["error"]
    args[:2], args[3:5] = [args[0], "NAME, one"], [args[0], "LOOK, <lora:one:1>"]
    assert "error" not in run_job(job, context)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Sampler"], "the number of Sampler is"),
        ([99], "must be the number of an axis; there are: 0 Nothing, 1 Seed"),
        ([{"x": 1}], "must be the number of an axis; there are: 0 Nothing"),
    ],
)
def test_an_axis_that_is_none_is_named(context: JobContext, given: Any, message: str) -> None:
    job = {"prompt": "x", "script_name": "x/y/z plot", "script_args": given}
    error = run_job({"input": job}, context)["error"]
    assert message in error
    assert "[input-invalid]" in error


def test_missing_arguments_get_the_defaults_of_their_own_script(
    webui: WebUI, context: JobContext, release: str
) -> None:
    job = plot(release, "Seed", "1, 2", text=True)
    whole = job["input"]["script_args"]
    job["input"]["script_args"] = whole[:14]
    [warning] = run_job(job, context)["warnings"]
    assert "14 of the 18" in warning
    assert "Vary seeds for Y (False)" in warning
    assert webui.requests[-1][1]["script_args"] == [*whole[:14], False, False, 0, False]


def test_few_arguments_are_enough_and_superfluous_ones_left_out(
    webui: WebUI, context: JobContext, release: str
) -> None:
    job = plot(release, "Seed", "1, 2", text=True)
    whole = job["input"]["script_args"]
    job["input"]["script_args"] = whole[:2]
    assert "error" not in run_job(job, context)
    assert webui.requests[-1][1]["script_args"][3] == 0  # the number of Nothing
    job["input"]["script_args"] = [*whole, 7]
    assert "19 of the 18" in run_job(job, context)["warnings"][0]
    assert webui.requests[-1][1]["script_args"] == whole


def test_a_choice_that_is_given_by_number_gets_the_number_of_its_default(
    webui: WebUI, context: JobContext
) -> None:
    fields = {"init_images": [IMAGE], "script_name": "Poor man's outpainting"}
    job = {"input": {"api": "img2img", "prompt": "a cat", **fields, "script_args": [128, 4]}}
    assert "error" not in run_job(job, context)
    assert webui.requests[-1][1]["script_args"][:3] == [128, 4, 0]  # the number of fill


def test_missing_choices_of_an_extension_s_script_are_refused(
    webui: WebUI, context: JobContext, release: str
) -> None:
    kind = {"label": "Redraw mode", "value": "Linear", "choices": ["Linear", "Chess", "None"]}
    size = {"label": "Tile width", "value": 512, "choices": None}
    row = {"name": "tiles", "is_alwayson": False, "is_img2img": False, "args": [kind, size]}
    webui.on("script-info", [*recorded(release)["/sdapi/v1/script-info"], row])
    fields = {"prompt": "a cat", "script_name": "Tiles"}
    error = run_job({"input": fields}, context)["error"]
    assert "0 of the 2 of 'tiles'; 'Redraw mode' has no default that is known here" in error
    assert "give all 2" in error
    assert "error" not in run_job({"input": {**fields, "script_args": [0]}}, context)
    assert webui.requests[-1][1]["script_args"] == [0, 512]


def test_a_hires_axis_without_second_pass_is_a_warning(context: JobContext, release: str) -> None:
    result = run_job(plot(release, "Hires sampler", ["Euler"]), context)
    assert any("Hires sampler does nothing without enable_hr" in w for w in result["warnings"])


def test_an_axis_that_restores_faces_needs_the_weights(
    context: JobContext, release: str, tmp_path: Path
) -> None:
    job = plot(release, "Face restore", "CodeFormer, false", text=True)
    assert "[weights-missing]" in run_job(job, context)["error"]
    place_weights(tmp_path, "face-restorer", "CodeFormer")
    assert "error" not in run_job(job, context)


def img2img(script: str, *args: Any) -> dict[str, Any]:
    given = {"prompt": "x", "init_images": [IMAGE], "script_name": script}
    return {"input": {"api": "img2img", **given, "script_args": list(args)}}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (img2img("SD upscale", "", 8, "Lancsos", 2), "there is no upscaler 'Lancsos'"),
        (img2img("SD upscale", "", 8, "swinir 4x", 2), "[weights-missing]"),
        (img2img("Loopback", 2, 0.5, "Linear", "CLIP"), "[weights-missing]"),
        (img2img("Loopback", 2, 0.5, "Linear", "DeepBooru"), "[weights-missing]"),
    ],
)
def test_other_scripts_name_upscalers_and_interrogators(
    context: JobContext, job: dict[str, Any], message: str
) -> None:
    assert message in run_job(job, context)["error"]


@pytest.mark.parametrize("upscaler", ["lanczos", 1, "None", 0])
def test_an_upscaler_in_any_case_or_by_number_is_found(context: JobContext, upscaler: Any) -> None:
    assert "error" not in run_job(img2img("SD upscale", "", 8, upscaler, 2.0), context)


def from_file(text: str) -> dict[str, Any]:
    args = [False, False, "start", text]
    return {"input": {"script_name": "prompts from file or textbox", "script_args": args}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a cat <lora:gone:1>", "line 1: there is no LoRA 'gone'"),
        ('a cat\n--prompt "a <lora:gone:1>" --steps 2', "line 2: there is no LoRA 'gone'"),
        ("--prompt a cat --sampler_name Eulr", "line 1: there is no sampler 'Eulr'"),
        ("--prompt x --sd_model photo", "line 1: there is no checkpoint 'photo'"),
        ("--prompt x --outpath_samples /tmp", "jobs may not set outpath_samples"),
        ("--prompt x --stps 2", "'stps' is no option with a value"),
        ("--prompt x --steps", "'steps' is no option with a value"),
        ("a cat -- happy", "'a' is no option with a value"),
        ("--prompt 'x", "No closing quotation"),
    ],
)
def test_lines_of_prompts_are_checked(context: JobContext, text: str, message: str) -> None:
    assert message in run_job(from_file(text), context)["error"]


@pytest.mark.parametrize(
    "text",
    [
        "a cat\n\na dog",
        '--prompt a cat --negative_prompt "bad" worse --seed -1',
        "--sampler_name k_dpmpp_2m --prompt x --sd_model anime",
    ],
)
def test_lines_of_prompts_that_can_be_drawn_are_sent(context: JobContext, text: str) -> None:
    assert "error" not in run_job(from_file(text), context)


@pytest.mark.parametrize("name", ["Refiner", "seed", "sampler"])
def test_scripts_of_the_user_interface_only_are_a_warning(context: JobContext, name: str) -> None:
    job = {"prompt": "x", "alwayson_scripts": {name: {"args": []}}}
    [warning] = run_job({"input": job}, context)["warnings"]
    assert f"alwayson_scripts.{name} does nothing in API requests" in warning


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("generating image for xyz plot: AssertionError", "script-failed"),
        ("*** Error parsing line --steps two as commandline", "script-failed"),
        ("Invalid size in XYZ plot: 64", "fallback-used"),
    ],
)
def test_lines_about_cells_that_failed_are_known(line: str, code: str) -> None:
    finding = find_in_line(line)
    assert finding
    assert finding.code == code
