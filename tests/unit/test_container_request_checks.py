"""A job that names something missing fails before it is drawn, with the field; others are drawn.

The lists are those that A1111 v1.9.3 and v1.10.1 answered, with models added in their shape.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.file_check import FileCheck
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.availability.weights_check import WeightPlaces
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from scripts.container.serverless.request.webui_facts import WebuiFacts
from scripts.container.settings import Settings
from scripts.container.status.log_findings import Finding, find_in_line
from tests.support import scripted_webui
from tests.support.install import CHECKPOINT, LORA, safetensors, upscaler
from tests.support.pickles import Global, torch_zip
from tests.support.releases import RELEASES
from tests.support.request_checks import make_checks, make_context, place_weights
from tests.support.scripted_webui import DRAWN, IMAGE, WebUI

CHECKPOINTS = [
    {
        "title": "sub/anime.safetensors [a1b2c3d4e5]",
        "model_name": "sub_anime",
        "hash": "a1b2c3d4e5",
        "sha256": "a1b2c3d4e5" + "0" * 54,
        "filename": "/models/Stable-diffusion/sub/anime.safetensors",
        "config": None,
    },
    {
        "title": "photo.ckpt",
        "model_name": "photo",
        "hash": None,
        "sha256": None,
        "filename": "/models/Stable-diffusion/photo.ckpt",
        "config": None,
    },
]
LORAS = [
    {"name": "add_detail", "alias": "detail", "path": "/l/add_detail.safetensors", "metadata": {}},
    {"name": "one", "alias": "shared", "path": "/l/one.safetensors", "metadata": {}},
    {"name": "two", "alias": "shared", "path": "/l/two.safetensors", "metadata": {}},
]
STYLES = [
    {"name": "cinema", "prompt": "film <lora:add_detail:0.5>", "negative_prompt": ""},
    {"name": "broken", "prompt": "<lora:gone:1>", "negative_prompt": ""},
]
MODULES = {"module_list": ["none", "canny", "openpose"], "module_detail": {}}
CONTROLNETS = {"model_list": ["control_v11p_sd15_canny [d14c016b]"]}


@pytest.fixture(params=RELEASES)
def webui(request: pytest.FixtureRequest) -> Iterator[WebUI]:
    with scripted_webui.running(request.param) as running:
        running.on("sd-models", CHECKPOINTS)
        running.on("sd-vae", [{"model_name": "mse.vae.pt", "filename": "/models/VAE/mse.vae.pt"}])
        running.on("loras", LORAS)
        running.on("hypernetworks", [{"name": "hyper", "path": "/models/hypernetworks/hyper.pt"}])
        running.on("prompt-styles", STYLES)
        for route in ("refresh-checkpoints", "refresh-vae", "refresh-loras"):
            running.on(route, {})
        for route in ("txt2img", "img2img", "extra-single-image"):
            running.on(route, DRAWN | {"image": IMAGE, "html_info": ""})
        running.on("interrogate", {"caption": "a lighthouse"})
        yield running


@pytest.fixture
def context(webui: WebUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobContext:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return make_context(webui.client, tmp_path)


def settings(**options: Any) -> dict[str, Any]:
    return {"override_settings": options}


def hires(**fields: Any) -> dict[str, Any]:
    return {"enable_hr": True, "denoising_strength": 0.5, **fields}


def extras(**fields: Any) -> dict[str, Any]:
    return {"api": "extras", "image": IMAGE, **fields}


def unit(**fields: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True, **fields}]}}}


def detail(**fields: Any) -> dict[str, Any]:
    unit = {"ad_model": "face.pt", **fields}
    return {"alwayson_scripts": {"ADetailer": {"args": [True, False, unit]}}}


# Field, input, and what the message lists first. The outcome without the check is in
# docs/explanation/no-substitutes.md: most of these are 200 with something else.
MISSING = [
    ("override_settings.sd_model_checkpoint", settings(sd_model_checkpoint="anima"), "anime"),
    ("override_settings.sd_model_checkpoint", settings(sd_model_checkpoint="phot"), "photo.ckpt"),
    ("override_settings.sd_model_checkpoint", settings(sd_model_checkpoint="Photo"), "photo.ckpt"),
    ("refiner_checkpoint", {"refiner_checkpoint": "xl-refiner", "refiner_switch_at": 0.8}, ""),
    ("hr_checkpoint_name", hires(hr_checkpoint_name="nope"), ""),
    ("override_settings.sd_vae", settings(sd_vae="mse"), "mse.vae.pt"),
    ("sampler_name", {"sampler_name": "euler"}, "Euler"),
    ("sampler_name", {"sampler_name": "k_dpmpp_2m"}, "DPM++ 2M"),
    ("sampler_index", {"sampler_index": "Eulr"}, "Euler"),
    ("scheduler", {"scheduler": "Karas"}, "Karras"),
    ("hr_sampler_name", hires(hr_sampler_name="Eulr"), "Euler"),
    ("hr_scheduler", hires(hr_scheduler="Karas"), "Karras"),
    ("hr_upscaler", hires(hr_upscaler="Latent (bicubicc)"), "Latent (bicubic)"),
    ("hr_upscaler", hires(hr_upscaler="4x-UltraSharp"), ""),
    ("override_settings.upscaler_for_img2img", settings(upscaler_for_img2img="Lancos"), "Lanczos"),
    (
        "override_settings.face_restoration_model",
        {"restore_faces": True, **settings(face_restoration_model="GFPGN")},
        "GFPGAN",
    ),
    ("prompt", {"prompt": "a cat <lora:ad_detail:1>"}, "add_detail"),
    ("prompt", {"prompt": "<lyco:missing:1>"}, ""),
    ("prompt", {"prompt": "<lora:shared:1>"}, ""),  # two files have this alias
    ("prompt", {"prompt": "<hypernet:hypr:1>"}, "hyper"),
    ("hr_prompt", hires(hr_prompt="<lora:missing:1>"), ""),
    ("styles (broken)", {"styles": ["broken"]}, ""),
    ("override_settings.sd_lora", settings(sd_lora="detail"), "add_detail"),
    ("override_settings.sd_hypernetwork", settings(sd_hypernetwork="hypr"), "hyper"),
    ("styles[1]", {"styles": ["cinema", "cinemaa"]}, "cinema"),
    ("upscaler_1", extras(upscaler_1="R-ESRGAN 4x"), "R-ESRGAN 4x+"),
    ("upscaler_2", extras(upscaler_1="Lanczos", upscaler_2="Lancsos"), "Lanczos"),
    ("sd_vae", {"api": {"method": "POST", "endpoint": "options"}, "sd_vae": "mse"}, "mse.vae.pt"),
    ("model", {"api": "interrogate", "image": IMAGE, "model": "blip"}, "clip"),
    ("alwayson_scripts.ControlNet.args[0].module", unit(module="cany"), "canny"),
    (
        "alwayson_scripts.ControlNet.args[0].model",
        unit(model="control_v11p_sd15_tile"),
        "control_v11p_sd15_canny [d14c016b]",
    ),
    ("alwayson_scripts.ADetailer.args[2].ad_model", detail(ad_model="faces.pt"), "face.pt"),
    (
        "alwayson_scripts.ADetailer.args[2].ad_checkpoint",
        detail(ad_use_checkpoint=True, ad_checkpoint="anima"),
        "anime",
    ),
    (
        "alwayson_scripts.ADetailer.args[2].ad_sampler",
        detail(ad_use_sampler=True, ad_sampler="Eulr"),
        "Euler",
    ),
    (
        "alwayson_scripts.ADetailer.args[2].ad_controlnet_model",
        detail(ad_controlnet_model="control_v11f1p_sd15_depth"),
        "control_v11p_sd15_canny [d14c016b]",
    ),
    (
        "alwayson_scripts.ADetailer.args[2].ad_prompt",
        detail(ad_prompt="<lora:ad_detail:1>"),
        "add_detail",
    ),
]


@pytest.mark.parametrize(("field", "job", "nearest"), MISSING)
def test_what_is_not_there_fails_before_it_is_drawn(
    webui: WebUI, context: JobContext, field: str, job: dict[str, Any], nearest: str
) -> None:
    webui.routes["/controlnet/module_list"] = lambda _: MODULES
    webui.routes["/controlnet/model_list"] = lambda _: CONTROLNETS
    webui.routes["/adetailer/v1/ad_model"] = lambda _: {"ad_model": ["face.pt", "hand.pt"]}
    prompt = {} if "options" in str(job.get("api")) else {"prompt": "x"}
    error = run_job({"input": {**prompt, **job}}, context)["error"]
    assert f"input.{field}: there is no " in error
    assert "[name-unknown]" in error
    assert nearest in error.partition("there are: ")[2].partition(",")[0]
    assert not {"txt2img", "img2img", "interrogate", "extra-single-image"} & {*webui.paths()}


PRESENT = [
    settings(sd_model_checkpoint="sub/anime.safetensors"),
    settings(sd_model_checkpoint="sub/anime.safetensors [a1b2c3d4e5]"),
    settings(sd_model_checkpoint="sub_anime"),
    settings(sd_model_checkpoint="anime"),
    settings(sd_model_checkpoint="anime [a1b2c3d4e5]"),
    settings(sd_model_checkpoint="a1b2c3d4e5"),
    settings(sd_model_checkpoint="photo"),
    {"refiner_checkpoint": "nime", "refiner_switch_at": 0.5},
    {"refiner_checkpoint": "anime.safetensors [00000000]", "refiner_switch_at": 0.5},
    {"refiner_checkpoint": "None"},
    hires(hr_checkpoint_name="Use same checkpoint"),
    hires(hr_checkpoint_name="photo"),
    {"hr_checkpoint_name": "nope", "hr_upscaler": "nope", "hr_sampler_name": "nope"},
    settings(sd_vae="mse.vae.pt"),
    settings(sd_vae="Automatic"),
    settings(sd_vae="None"),
    settings(sd_vae=None),
    {"sampler_name": "DPM++ 2M Karras"},
    {"sampler_name": "DPM++ 2M", "scheduler": "Karras"},
    {"scheduler": "karras"},
    {"scheduler": "Automatic"},
    hires(hr_upscaler="Latent (nearest-exact)"),
    hires(hr_upscaler="Nearest"),
    hires(),
    settings(upscaler_for_img2img="Nearest"),
    {"prompt": "<lora:add_detail:0.8>"},
    {"prompt": "<lora:detail:te=0.5:unet=1>, <lora:one>"},
    {"prompt": "<hypernet:hyper:1>"},
    {"negative_prompt": "<lora:missing:1>"},
    {"hr_prompt": "<lora:missing:1>"},
    {"styles": ["cinema", "None"]},
    settings(sd_lora="add_detail"),
    extras(upscaler_1="Lanczos", upscaler_2="None"),
    extras(upscaler_1=None, upscaler_2="nope"),
    unit(module="Canny edge", model="canny"),
    unit(module="none", model="None"),
    {"alwayson_scripts": {"controlnet": {"args": [{"enabled": False, "model": "nope"}]}}},
    detail(ad_checkpoint="nope", ad_sampler="nope", ad_vae="nope"),
    detail(ad_use_checkpoint=True, ad_checkpoint="Use same checkpoint"),
    detail(ad_controlnet_model="Passthrough", ad_controlnet_module="None"),
    detail(ad_tab_enable=False, ad_model="nope"),
    detail(ad_model="None", ad_prompt="<lora:missing:1>"),
    {"alwayson_scripts": {"ADetailer": {"args": [False, False, {"ad_model": "nope"}]}}},
]


@pytest.mark.parametrize("job", PRESENT)
def test_what_is_there_is_drawn(webui: WebUI, context: JobContext, job: dict[str, Any]) -> None:
    webui.routes["/controlnet/model_list"] = lambda _: CONTROLNETS
    # The names that people see are asked for by a query, which this stand-in does not read.
    webui.routes["/controlnet/module_list"] = lambda _: {
        "module_list": ["none", "canny", "Canny edge"]
    }
    webui.routes["/adetailer/v1/ad_model"] = lambda _: {"ad_model": ["face.pt"]}
    assert "error" not in run_job({"input": {"prompt": "x", **job}}, context)


def test_adetailer_cannot_use_a_controlnet_that_is_not_there(context: JobContext) -> None:
    job = {"prompt": "x", **detail(ad_controlnet_model="control_v11p_sd15_inpaint")}
    error = run_job({"input": job}, context)["error"]
    assert "there is no ControlNet model 'control_v11p_sd15_inpaint'; this worker has none" in error


def test_an_old_hash_of_8_digits_names_a_checkpoint(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    file = tmp_path / "photo.ckpt"
    file.write_bytes(b"\0" * 0x100000 + b"weights")
    webui.on("sd-models", [{**CHECKPOINTS[1], "filename": str(file)}])
    old = "9a129038"  # SHA-256 of what lies at 1 MiB
    for name in (old, f"photo.ckpt [{old}]"):
        assert "error" not in run_job({"input": settings(sd_model_checkpoint=name)}, context)
    assert "error" in run_job({"input": settings(sd_model_checkpoint="9a129030")}, context)


# Input, what the message names, and what its hint adds. Facts: /sdapi/v1/upscalers and
# /sdapi/v1/face-restorers list all of these without their weights.
WITHOUT_WEIGHTS = [
    (extras(upscaler_1="R-ESRGAN 4x+"), "RealESRGAN_x4plus.pth", "[upscale]"),
    (extras(upscaler_1="ESRGAN_4x"), "ESRGAN_4x.pth", "[upscale]"),
    (extras(upscaler_1="SwinIR 4x"), "SwinIR 4x.pth", "[upscale]"),
    (extras(upscaler_1="ScuNET PSNR"), "ScuNET PSNR.pth", "[upscale]"),
    (extras(upscaler_1="DAT x2"), "DAT_x2.pth", "[upscale-dat]"),
    (extras(upscaler_1="LDSR"), "model.ckpt", "[upscale-ldsr]"),
    (
        extras(upscaler_1="Lanczos", upscaler_2="DAT x3", extras_upscaler_2_visibility=0.5),
        "DAT_x3.pth",
        "[upscale-dat]",
    ),
    (extras(gfpgan_visibility=1), "GFPGANv1.4.pth", "[faces]"),
    (extras(codeformer_visibility=0.5), "codeformer-v0.1.0.pth", "[faces]"),
    (hires(hr_upscaler="R-ESRGAN 4x+"), "RealESRGAN_x4plus.pth", "[upscale]"),
    (settings(upscaler_for_img2img="SwinIR 4x"), "SwinIR 4x.pth", "[upscale]"),
    ({"restore_faces": True}, "codeformer-v0.1.0.pth", "[faces]"),
    (settings(face_restoration=True), "codeformer-v0.1.0.pth", "[faces]"),
    (
        {"restore_faces": True, **settings(face_restoration_model="GFPGAN")},
        "GFPGANv1.4.pth",
        "[faces]",
    ),
    ({"api": "interrogate", "image": IMAGE}, "model_base_caption", "[interrogate]"),
    (
        {"api": "interrogate", "image": IMAGE, "model": "deepdanbooru"},
        "model-resnet_custom_v3.pt",
        "[deepdanbooru]",
    ),
]


@pytest.mark.parametrize(("job", "file", "features"), WITHOUT_WEIGHTS)
def test_weights_that_are_not_there_are_named_with_the_line_that_adds_them(
    webui: WebUI, context: JobContext, job: dict[str, Any], file: str, features: str
) -> None:
    error = run_job({"input": {"prompt": "x", **job}}, context)["error"]
    assert "[weights-missing]" in error
    assert file in error
    assert f"features: {features}" in error
    assert not {"txt2img", "interrogate", "extra-single-image"} & {*webui.paths()}


@pytest.mark.parametrize(
    ("job", "use", "name"),
    [
        (extras(upscaler_1="R-ESRGAN 4x+"), "upscaler", "R-ESRGAN 4x+"),
        (extras(upscaler_1="LDSR"), "upscaler", "LDSR"),
        (extras(gfpgan_visibility=1), "face-restorer", "GFPGAN"),
        ({"restore_faces": True}, "face-restorer", "CodeFormer"),
        ({"api": "interrogate", "image": IMAGE}, "interrogator", "clip"),
        (
            {"api": "interrogate", "image": IMAGE, "model": "deepdanbooru"},
            "interrogator",
            "deepdanbooru",
        ),
    ],
)
def test_weights_that_are_there_are_used(
    context: JobContext, tmp_path: Path, job: dict[str, Any], use: Any, name: str
) -> None:
    place_weights(tmp_path, use, name)
    assert "error" not in run_job({"input": {"prompt": "x", **job}}, context)


def test_a_clip_file_that_the_webui_would_fetch_again_is_refused(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    [*_, clip] = sorted(
        place_weights(tmp_path, "interrogator", "clip"), key=lambda file: file.suffix == ".pt"
    )
    clip.write_bytes(b"another model")
    error = run_job({"input": {"api": "interrogate", "image": IMAGE}}, context)["error"]
    assert "[weights-missing]" in error
    assert "put the original in place of ViT-L-14.pt" in error
    assert "interrogate" not in webui.paths()


def test_weights_that_were_added_after_the_start_are_used(
    context: JobContext, tmp_path: Path
) -> None:
    def link() -> None:
        place_weights(tmp_path, "upscaler", "DAT x2")

    checks = RequestChecks(Available(context.facts, link), WeightPlaces(tmp_path, tmp_path, {}))
    job = {"input": extras(upscaler_1="DAT x2")}
    assert "error" not in run_job(job, replace(context, checks=checks))


def test_an_upscaler_that_was_listed_from_a_file_needs_that_file(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    file = tmp_path / "ESRGAN" / "4x-UltraSharp.pth"
    rows = [{"name": "4x-UltraSharp", "model_path": str(file), "scale": 4}]
    webui.on("upscalers", rows)
    job = {"input": extras(upscaler_1="4x-UltraSharp")}
    assert "[weights-missing]" in run_job(job, context)["error"]
    file.parent.mkdir()
    file.write_bytes(upscaler())
    assert "error" not in run_job(job, context)


def test_scunet_psnr_is_not_drawn_with_the_weights_of_gan(
    context: JobContext, tmp_path: Path
) -> None:
    # scunet_model.py:63-67 loads the first one's address for both, under the name ScuNET.pth.
    (tmp_path / "models/ScuNET").mkdir(parents=True)
    (tmp_path / "models/ScuNET/ScuNET.pth").touch()
    assert "error" not in run_job({"input": extras(upscaler_1="ScuNET GAN")}, context)
    assert "error" in run_job({"input": extras(upscaler_1="ScuNET PSNR")}, context)


def test_flags_of_image_and_environment_move_folders() -> None:
    made = Settings.from_environment(
        {
            "WEBUI_DIR": "/webui",
            "IMAGE_FLAGS": '{"add": ["--esrgan-models-path", "/baked", "--lora-dir", "/loras"]}',
            "WEBUI_ARGS": "--dat-models-path=dat",
        }
    )
    moved = {"ESRGAN": Path("/baked"), "DAT": Path("/webui/dat")}
    assert WeightPlaces.of(made).moved == moved


def test_flags_move_folders_of_weights(context: JobContext, tmp_path: Path) -> None:
    moved = WeightPlaces(tmp_path, tmp_path, {"RealESRGAN": tmp_path / "elsewhere"})
    checks = RequestChecks(Available(context.facts, lambda: None), moved)
    job = {"input": extras(upscaler_1="R-ESRGAN 4x+")}
    assert str(tmp_path / "elsewhere") in run_job(job, replace(context, checks=checks))["error"]


@pytest.mark.parametrize(
    ("job", "route", "added"),
    [
        (settings(sd_model_checkpoint="new"), "sd-models", {**CHECKPOINTS[1], "model_name": "new"}),
        ({"prompt": "<lora:new:1>"}, "loras", {"name": "new", "alias": "new", "path": "/l/new.pt"}),
        (settings(sd_vae="new.pt"), "sd-vae", {"model_name": "new.pt", "filename": "/v/new.pt"}),
    ],
)
def test_a_model_that_was_added_after_the_start_is_found(
    webui: WebUI, tmp_path: Path, context: JobContext, job: Any, route: str, added: Any
) -> None:
    linked: list[int] = []
    seen: list[dict[str, Any]] = []
    available = Available(context.facts, lambda: linked.append(1))
    checks = RequestChecks(available, WeightPlaces(tmp_path, tmp_path, {}))
    webui.on(route, lambda _: seen)

    def refresh(_: Any) -> Any:
        seen.extend([added] if linked else [])
        return {}

    for name in ("refresh-checkpoints", "refresh-loras", "refresh-vae"):
        webui.on(name, refresh)
    context = replace(context, checks=checks)
    assert "error" not in run_job({"input": {"prompt": "x", **job}}, context)
    before = len(linked)
    assert "error" not in run_job({"input": {"prompt": "x", **job}}, context)
    assert len(linked) == before == 1


def test_lists_are_read_once_for_each_process_of_the_webui(
    webui: WebUI, tmp_path: Path, context: JobContext
) -> None:
    process = [1]
    facts = WebuiFacts(webui.client, lambda: process[0])
    reads: list[int] = []

    def list_checkpoints(_: Any) -> Any:
        reads.append(1)
        return CHECKPOINTS

    webui.on("sd-models", list_checkpoints)
    context = replace(context, facts=facts, checks=make_checks(facts, tmp_path))
    job = {"input": settings(sd_model_checkpoint="photo")}
    for _ in range(3):
        run_job(job, context)
    assert len(reads) == 1
    process[0] = 2
    run_job(job, context)
    assert len(reads) == 2
    run_job({"input": {"api": "refresh-checkpoints"}}, context)
    run_job(job, context)
    assert len(reads) == 3


def test_checks_cost_less_than_5_ms(context: JobContext) -> None:
    fields = {**settings(sd_model_checkpoint="photo", sd_vae="mse.vae.pt"), **hires()}
    fields |= {"prompt": "x <lora:one:1>", "styles": ["cinema"], "sampler_name": "Euler"}
    context.checks.check("/sdapi/v1/txt2img", fields)
    began = time.perf_counter()
    for _ in range(20):
        context.checks.check("/sdapi/v1/txt2img", fields)
    assert (time.perf_counter() - began) / 20 < 0.005


@pytest.mark.parametrize("bad", ["<lora:one:strong>", "<lora:one:1:dyn=x>", "<hypernet:hyper:x>"])
def test_a_strength_that_is_no_number_is_named(context: JobContext, bad: str) -> None:
    # Upstream prints "activating extra network …" and draws without every network of the prompt.
    error = run_job({"input": {"prompt": f"x {bad}"}}, context)["error"]
    assert bad in error
    assert "[input-invalid]" in error


@pytest.mark.parametrize(
    ("job", "part"),
    [
        ({"prompt": "<LORA:one:1>"}, "<LORA:one:1>"),
        (extras(upscaling_resize=4), "upscaling_resize does nothing without upscaler_1"),
        (extras(upscaler_2="Lanczos"), "upscaler_2 does nothing without upscaler_1"),
    ],
)
def test_what_has_no_effect_is_a_warning(
    context: JobContext, job: dict[str, Any], part: str
) -> None:
    result = run_job({"input": {"prompt": "x", **job}}, context)
    assert any(part in warning for warning in result["warnings"])


def test_an_embedding_that_does_not_fit_the_model_is_a_warning(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("embeddings", {"loaded": {"good-hands": {}}, "skipped": {"EasyNegative": {}}})
    result = run_job(
        {"input": {"prompt": "good-hands", "negative_prompt": "easynegative"}}, context
    )
    [warning] = result["warnings"]
    assert "EasyNegative" in warning
    assert "warnings" not in run_job({"input": {"prompt": "easy negatives"}}, context)


@pytest.mark.parametrize(
    ("field", "job", "detail", "listed"),
    [
        ("script_name", {"script_name": "x/y plot"}, "Script 'x/y plot' not found", "x/y/z plot"),
        (
            "alwayson_scripts",
            {"alwayson_scripts": {"refinr": {"args": []}}},
            "Script 'refinr' not found",
            "refiner",
        ),
    ],
)
def test_the_webuis_refusal_of_a_script_lists_what_there_is(
    webui: WebUI, context: JobContext, field: str, job: dict[str, Any], detail: str, listed: str
) -> None:
    answer = {"error": "HTTPException", "detail": detail, "body": "", "errors": ""}
    webui.on("txt2img", (422, answer))
    error = run_job({"input": {"prompt": "x", **job}}, context)["error"]
    assert f"input.{field}" in error
    assert f"there are: {listed}" in error
    assert "extension" in error
    assert "[name-unknown]" in error


def with_log(context: JobContext, *lines: str) -> JobContext:
    found = [finding for line in lines if (finding := find_in_line(line))]

    def read(since: float) -> list[Finding]:
        assert since < time.monotonic()
        return found

    return replace(context, read_log=read)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("could not find upscaler named 8x, using None as a fallback", "fallback-used"),
        ("*** Unable to load ESRGAN model /models/ESRGAN/4x.pth", "weights-not-loaded"),
        ("loading network /models/Lora/one.safetensors: SafetensorError", "weights-not-loaded"),
        ("*** Error interrogating", "not-described"),
        # The WebUI hides the warning that the file's checksum is another one: seen with v1.9.3.
        ('clip/clip.py", line 59, in _download', "weights-not-loaded"),
    ],
)
def test_a_line_about_a_fallback_fails_the_job_that_was_drawn(
    context: JobContext, line: str, code: str
) -> None:
    result = run_job({"input": {"prompt": "x"}}, with_log(context, line))
    assert f"[{code}]" in result["error"]
    assert line.removeprefix("*** ")[:40] in result["error"]


def test_a_failed_description_has_the_code_of_its_cause(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    place_weights(tmp_path, "interrogator", "clip")
    webui.on("interrogate", {"caption": "a wall<error>"})
    job = {"input": {"api": "interrogate", "image": IMAGE}}
    cause = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
    error = run_job(job, with_log(context, "*** Error interrogating", cause))["error"]
    assert "[out-of-memory]" in error


def test_a_script_that_fails_fails_the_jobs_that_name_scripts(context: JobContext) -> None:
    context = with_log(context, "*** Error running process: /extensions/controlnet.py")
    named = {"prompt": "x", "alwayson_scripts": {"refiner": {"args": []}}}
    assert "[script-failed]" in run_job({"input": named}, context)["error"]
    result = run_job({"input": {"prompt": "x"}}, context)
    assert "controlnet.py" in result["warnings"][0]


def test_an_error_without_a_reason_gets_the_cause_from_the_log(
    webui: WebUI, context: JobContext
) -> None:
    text = "argument of type 'NoneType' is not iterable"
    webui.on("txt2img", (500, {"error": "TypeError", "errors": text, "detail": ""}))
    line = "*** Error verifying pickled file from /models/RealESRGAN/RealESRGAN_x4plus.pth"
    error = run_job({"input": {"prompt": "x"}}, with_log(context, line))["error"]
    assert "RealESRGAN_x4plus.pth" in error
    assert "[pickle-unreadable]" in error


def test_an_image_that_upstream_kept_from_a_failure_is_refused(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    # It keeps the last upscaled images, and prints nothing when it takes one: seen with v1.9.3.
    file = tmp_path / "4x.pth"
    file.write_bytes(upscaler())
    webui.on("upscalers", [{"name": "4x", "model_path": str(file), "scale": 4}])
    job = {"input": extras(upscaler_1="4x")}
    failing = with_log(context, f"*** Unable to load ESRGAN model {file}")
    assert "[weights-not-loaded]" in run_job(job, failing)["error"]
    assert "[weights-not-loaded]" in run_job(job, context)["error"]
    other = {"input": {**job["input"], "image": IMAGE[:-8] + IMAGE[-8:].swapcase()}}
    assert "weights-not-loaded" not in str(run_job(other, context))


def test_a_list_that_cannot_be_read_is_an_error_not_a_pass(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("loras", (500, {"error": "RuntimeError", "errors": "gone", "detail": ""}))
    error = run_job({"input": {"prompt": "<lora:one:1>"}}, context)["error"]
    assert "[list-unreadable]" in error


@pytest.mark.parametrize("option", ["sd_model_checkpoint", "sd_vae"])
def test_a_damaged_file_is_refused_before_upstream_takes_its_model_apart(
    webui: WebUI, context: JobContext, tmp_path: Path, option: str
) -> None:
    # With v1.10.1 every job failed after one with a damaged VAE.
    file = tmp_path / "cut.safetensors"
    file.write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    row = {"title": file.name, "model_name": file.name, "hash": None, "filename": str(file)}
    webui.on("sd-models", [row])
    webui.on("sd-vae", [row])
    job = {"input": {"prompt": "x", **settings(**{option: file.name})}}
    error = run_job(job, context)["error"]
    assert "[not-safetensors]" in error
    assert f"input.override_settings.{option}" in error
    assert "txt2img" not in webui.paths()
    file.write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # replaced: read anew
    assert "not-safetensors" not in str(run_job(job, context))


SDXL = {**CHECKPOINT, "conditioner.embedders.1.model.ln_final.weight": (1,)}
RUNS_CODE = torch_zip({"a": Global("os", "system", ("true",))})
WRONG_FILES = [
    ("loras", {"prompt": "<lora:bad:1>"}, safetensors(CHECKPOINT), "wrong-kind"),
    ("loras", {"prompt": "<lora:bad:1>"}, safetensors(LORA)[:-1], "not-safetensors"),
    ("hypernetworks", {"prompt": "<hypernet:bad:1>"}, RUNS_CODE, "pickle-unsafe"),
    ("upscalers", extras(upscaler_1="bad"), RUNS_CODE, "pickle-unsafe"),
    ("sd-models", settings(sd_model_checkpoint="bad"), safetensors(LORA), "wrong-kind"),
    ("sd-vae", settings(sd_vae="bad"), RUNS_CODE, "pickle-unsafe"),
]


@pytest.mark.parametrize(("route", "job", "content", "code"), WRONG_FILES)
def test_a_file_that_upstream_would_leave_out_is_refused_before_drawing(
    webui: WebUI,
    context: JobContext,
    tmp_path: Path,
    route: str,
    job: dict[str, Any],
    content: bytes,
    code: str,
) -> None:
    file = tmp_path / ("bad.pt" if content is RUNS_CODE else "bad.safetensors")
    file.write_bytes(content)
    row = dict.fromkeys(("name", "alias", "model_name", "title"), "bad")
    row |= dict.fromkeys(("path", "model_path", "filename"), str(file))
    webui.on(route, [{**row, "hash": None}])
    error = run_job({"input": {"prompt": "x", **job}}, context)["error"]
    assert f"[{code}]" in error
    assert str(file) in error
    assert not {"txt2img", "extra-single-image"} & {*webui.paths()}


@pytest.mark.parametrize(
    ("checkpoint", "job", "warns"),
    [
        (CHECKPOINT, {}, False),
        (SDXL, {}, True),
        (CHECKPOINT, settings(sd_model_checkpoint="sub_anime"), False),
        (SDXL, settings(sd_model_checkpoint="sub_anime"), True),
        ({"a": (1,)}, {}, False),  # of an unknown base
    ],
)
def test_a_lora_for_another_base_is_a_warning(
    webui: WebUI,
    context: JobContext,
    tmp_path: Path,
    checkpoint: dict[str, Any],
    job: dict[str, Any],
    warns: bool,
) -> None:
    lora, model = tmp_path / "one.safetensors", tmp_path / "anime.safetensors"
    lora.write_bytes(safetensors(LORA))
    model.write_bytes(safetensors(checkpoint))
    webui.on("loras", [{"name": "one", "alias": "one", "path": str(lora)}])
    webui.on("sd-models", [{**CHECKPOINTS[0], "filename": str(model)}])
    webui.on("options", {"sd_model_checkpoint": CHECKPOINTS[0]["title"]})
    result = run_job({"input": {"prompt": "<lora:one:1>", **job}}, context)
    text = "the LoRA 'one' was made for SD1, and the checkpoint is SDXL"
    assert (text in str(result.get("warnings"))) == warns
    assert result["images"]


def test_pickles_are_left_to_a_webui_that_loads_any(
    webui: WebUI, context: JobContext, tmp_path: Path
) -> None:
    file = tmp_path / "bad.pt"
    file.write_bytes(RUNS_CODE)
    webui.on("hypernetworks", [{"name": "bad", "path": str(file)}])
    checks = RequestChecks(
        Available(context.facts, lambda: None),
        WeightPlaces(tmp_path, tmp_path, {}),
        FileCheck.of(
            Settings.from_environment({"WEBUI_DIR": "/x", "WEBUI_ARGS": "--disable-safe-unpickle"})
        ),
    )
    job = {"input": {"prompt": "<hypernet:bad:1>"}}
    assert "error" not in run_job(job, replace(context, checks=checks))


def test_a_webui_that_loaded_half_a_model_is_replaced(webui: WebUI, context: JobContext) -> None:
    replaced: list[int] = []
    context = replace(context, replace_webui=lambda: replaced.append(1))
    webui.on("txt2img", (500, {"error": "KeyError", "errors": "'decoder'", "detail": ""}))
    frame = 'File "/stable-diffusion-webui/modules/sd_vae.py", line 273, in reload_vae_weights'
    error = run_job({"input": {"prompt": "x"}}, with_log(context, frame))["error"]
    assert "[model-half-loaded]" in error
    assert replaced
    assert not run_job({"input": {"prompt": "x"}}, context).get("refresh_worker")
    assert len(replaced) == 1


def test_an_unreadable_list_of_embeddings_fails_no_drawn_job(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("embeddings", (500, {"error": "ValidationError", "errors": "shape", "detail": ""}))
    result = run_job({"input": {"prompt": "x"}}, context)
    assert result["images"]
    assert "embeddings" in result["warnings"][0]
