"""Inputs of other public workers and clients, as their READMEs and test files have them.

The values are shortened. Each must become the request that its author meant, on both releases.
"""

from __future__ import annotations

from typing import Any

import pytest

from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from tests.support.errors import user_error
from tests.support.releases import RELEASES, RecordedFacts

PICTURE = "iVBORw0KGgo="


def request_for(given: Any, release: str) -> JobRequest:
    return make_request(parse_job_input(given, 600), RecordedFacts(release), InputPolicy())


ASHLEYKLEYNHANS_TXT2IMG = {
    "prompt": "an astronaut riding a green horse",
    "negative_prompt": "",
    "seed": -1,
    "batch_size": 1,
    "steps": 30,
    "cfg_scale": 7,
    "width": 512,
    "height": 512,
    "sampler_name": "DPM++ SDE",
    "sampler_index": "DPM++ SDE",
    "scheduler": "karras",
    "restore_faces": False,
}
ASHLEYKLEYNHANS_CONTROLNET = {
    **ASHLEYKLEYNHANS_TXT2IMG,
    "init_images": [PICTURE],
    "override_settings": {
        "sd_model_checkpoint": "sd_xl_base_1.0",
        "sd_vae": "sdxl_vae.safetensors",
    },
    "override_settings_restore_afterwards": True,
    "refiner_checkpoint": "sd_xl_refiner_1.0",
    "refiner_switch_at": 0.8,
    "denoising_strength": 0.75,
    "alwayson_scripts": {
        "controlnet": {"args": [{"module": "canny", "model": "control_v11p_sd15_canny"}]}
    },
}
WEBUIAPI_TXT2IMG = {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "prompt": "cute squirrel",
    "styles": ["anime"],
    "seed": 1003,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 20,
    "cfg_scale": 7,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "ugly, out of frame",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}
WEBUIAPI_EXTRAS = {
    "resize_mode": 0,
    "show_extras_results": True,
    "gfpgan_visibility": 0,
    "codeformer_visibility": 0,
    "codeformer_weight": 0,
    "upscaling_resize": 2,
    "upscaling_resize_w": 512,
    "upscaling_resize_h": 512,
    "upscaling_crop": True,
    "upscaler_1": "None",
    "upscaler_2": "None",
    "extras_upscaler_2_visibility": 0,
    "upscale_first": False,
    "image": f"data:image/png;base64,{PICTURE}",
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("given", "name", "fields"),
    [
        pytest.param(
            {"prompt": "A test prompt"},
            "txt2img",
            {"prompt": "A test prompt"},
            id="runpod-workers/worker-a1111, .runpod/tests.json",
        ),
        pytest.param(
            {
                "api": {"method": "POST", "endpoint": "/sdapi/v1/txt2img"},
                "payload": ASHLEYKLEYNHANS_TXT2IMG,
            },
            "txt2img",
            ASHLEYKLEYNHANS_TXT2IMG,
            id="ashleykleynhans/runpod-worker-a1111, txt2img",
        ),
        pytest.param(
            {
                "api": {"method": "POST", "endpoint": "sdapi/v1/img2img"},
                "payload": ASHLEYKLEYNHANS_CONTROLNET,
            },
            "img2img",
            ASHLEYKLEYNHANS_CONTROLNET,
            id="ashleykleynhans/runpod-worker-a1111, img2img with ControlNet",
        ),
        pytest.param(
            {
                "api": {"method": "POST", "endpoint": "txt2img"},
                "payload": {"prompt": "x", "sampler_index": "DPM++ SDE Karras"},
            },
            "txt2img",
            {"prompt": "x", "sampler_index": "DPM++ SDE", "scheduler": "Karras"},
            id="ashleykleynhans/runpod-worker-a1111 before 1.0",
        ),
        pytest.param(
            {"api": {"method": "GET", "endpoint": "/sdapi/v1/loras"}, "payload": {}},
            "loras",
            {},
            id="ashleykleynhans/runpod-worker-a1111, lists",
        ),
        pytest.param(
            {
                "api": {"method": "POST", "endpoint": "/sdapi/v1/options"},
                "payload": {"sd_model_checkpoint": "deliberate_v2"},
            },
            "options",
            {"sd_model_checkpoint": "deliberate_v2"},
            id="ashleykleynhans/runpod-worker-a1111, set model",
        ),
        pytest.param(
            {"api_name": "txt2img", "prompt": "x", "sampler_name": "DPM++ 2M Karras", "seed": -1},
            "txt2img",
            {"prompt": "x", "sampler_name": "DPM++ 2M", "scheduler": "Karras", "seed": -1},
            id="workers with api_name",
        ),
        pytest.param(
            {"api_name": "txt2img", "params": {"width": 512, "prompt": "x"}},
            "txt2img",
            {"width": 512, "prompt": "x"},
            id="workers with api_name and params",
        ),
        pytest.param(WEBUIAPI_TXT2IMG, "txt2img", WEBUIAPI_TXT2IMG, id="webuiapi, txt2img"),
        pytest.param(
            {"api": "/sdapi/v1/extra-single-image", **WEBUIAPI_EXTRAS},
            "extra-single-image",
            WEBUIAPI_EXTRAS,
            id="webuiapi, extras",
        ),
    ],
)
def test_the_request_is_what_the_author_meant(
    release: str, given: dict[str, Any], name: str, fields: dict[str, Any]
) -> None:
    request = request_for(given, release)
    assert request.name == name
    assert request.fields == fields
    changed = request.fields.get("scheduler") == "Karras" or name == "options"
    assert bool(request.warnings) == changed


def test_names_of_other_programs_in_the_official_workers_example_are_named() -> None:
    # test_input.json of runpod-workers/worker-a1111: the WebUI ignores both fields there as well.
    given = {"prompt": "a photo", "width": 512, "num_inference_steps": 20, "guidance_scale": 7.5}
    request = request_for(given, "v1.10.1")
    assert [each.rpartition("; ")[2] for each in request.warnings] == [
        "did you mean steps?",
        "did you mean cfg_scale?",
    ]


def test_a_checkpoint_by_another_workers_field_is_no_other_checkpoint() -> None:
    # test_input.json of Me-verner/worker-a1111, which would be drawn by the default checkpoint.
    request = request_for({"prompt": "x", "model_name": "photoreal_v1"}, "v1.10.1")
    assert request.fields["override_settings"] == {"sd_model_checkpoint": "photoreal_v1"}
    assert "moved to override_settings.sd_model_checkpoint" in request.warnings[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api": {"method": "POST", "endpoint": "/v1/download"}}, "models come with the image"),
        ({"api_name": "getControlnetModels"}, "API_ALLOW=/controlnet/"),
        (
            {"api": {"method": "GET", "endpoint": "/controlnet/model_list"}},
            "API_ALLOW=/controlnet/",
        ),
        ({"workflow": {"3": {}}, "prompt": {"3": {}}}, "input.prompt must be text, not an object"),
    ],
)
def test_what_cannot_work_says_what_to_write(given: dict[str, Any], message: str) -> None:
    assert message in str(user_error(request_for, given, "v1.10.1"))
