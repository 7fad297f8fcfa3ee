"""A job's input becomes a request: routes, fields, warnings and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.job_fields import MISNAMED
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from tests.support.errors import user_error
from tests.support.releases import RELEASES, RecordedFacts, recorded

TIME_LIMIT = 600.0
FACTS = RecordedFacts()
POLICY = InputPolicy()


def request_for(
    value: object, facts: RecordedFacts = FACTS, policy: InputPolicy = POLICY
) -> JobRequest:
    return make_request(parse_job_input(value, TIME_LIMIT), facts, policy)


def refused(value: object, policy: InputPolicy = POLICY) -> str:
    error = user_error(request_for, value, FACTS, policy)
    assert error.code == "input-invalid"
    return str(error)


def warned(value: object) -> str:
    [warning] = request_for(value).warnings
    return warning


def test_plain_fields_are_a_txt2img() -> None:
    request = request_for({"prompt": "a lighthouse", "steps": 20})
    assert (request.route.method, request.path) == ("POST", "/sdapi/v1/txt2img")
    assert request.body == {"prompt": "a lighthouse", "steps": 20}
    assert request.timeout == TIME_LIMIT
    assert request.warnings == ()


FIELDS = {"init_images": ["aGk="], "prompt": "x"}


@pytest.mark.parametrize(
    "given",
    [
        {"api": "img2img", **FIELDS},
        {"api": "img2img", "payload": FIELDS},
        {"api": "/sdapi/v1/img2img", **FIELDS},
        {"api": "sdapi/v1/img2img/", **FIELDS},
        {"api": {"method": "POST", "endpoint": "/sdapi/v1/img2img"}, "payload": FIELDS},
        {"api": {"method": "post", "endpoint": "sdapi/v1/img2img"}, "payload": FIELDS},
        {"api": {"endpoint": "img2img"}, **FIELDS},
        {"api_name": "img2img", **FIELDS},
        {"api_name": "img2img", "params": FIELDS},
        {"method": "POST", "endpoint": "/sdapi/v1/img2img", "payload": FIELDS},
    ],
)
def test_every_form_of_img2img_is_the_same_request(given: dict[str, Any]) -> None:
    request = request_for(given)
    assert request.path == "/sdapi/v1/img2img"
    assert request.body == FIELDS
    assert not request.warnings


def test_init_images_without_api_are_an_img2img() -> None:
    request = request_for(FIELDS)
    assert request.name == "img2img"
    assert request.warnings == ("no api is named; the fields are those of img2img",)


def test_an_image_and_an_upscaler_without_api_are_extras() -> None:
    given = {"image": "aGk=", "upscaler_1": "Lanczos"}
    assert request_for(given).name == "extra-single-image"


def test_an_image_alone_may_be_for_several_routes() -> None:
    message = refused({"image": "aGk="})
    assert "input.api is missing - set it to one of: extra-single-image, interrogate" in message


def test_an_input_inside_the_input_is_unwrapped() -> None:
    request = request_for({"input": {"prompt": "x"}, "webhook": "https://a.example"})
    assert request.body == {"prompt": "x"}
    assert "another input" in request.warnings[0]


@pytest.mark.parametrize(
    ("given", "method", "path"),
    [
        ({"api": "schedulers"}, "GET", "/sdapi/v1/schedulers"),
        ({"api": "options"}, "GET", "/sdapi/v1/options"),
        ({"api": "options", "samples_format": "jpg"}, "POST", "/sdapi/v1/options"),
        ({"api_name": "getOptions"}, "GET", "/sdapi/v1/options"),
        ({"api_name": "setOptions", "samples_format": "jpg"}, "POST", "/sdapi/v1/options"),
        ({"api_name": "getModels"}, "GET", "/sdapi/v1/sd-models"),
        ({"api": "refresh-loras"}, "POST", "/sdapi/v1/refresh-loras"),
        ({"api": "png-info", "image": "aGk="}, "POST", "/sdapi/v1/png-info"),
        ({"api": {"method": "GET", "endpoint": "sdapi/v1/loras"}}, "GET", "/sdapi/v1/loras"),
        (
            {"api": "progress", "skip_current_image": True},
            "GET",
            "/sdapi/v1/progress?skip_current_image=True",
        ),
        (
            {"api": "/sdapi/v1/progress?skip_current_image=true"},
            "GET",
            "/sdapi/v1/progress?skip_current_image=True",
        ),
    ],
)
def test_every_route_of_the_webui_may_be_used(
    given: dict[str, Any], method: str, path: str
) -> None:
    request = request_for(given)
    assert (request.route.method, request.path) == (method, path)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("/sdapi/v1/server-kill", "jobs may not use /sdapi/v1/server-kill: it stops the WebUI"),
        ("server%2Dkill", "it stops the WebUI"),
        ("sdapi/v1/train/embedding", "it trains"),
        ("create/hypernetwork", "it writes files"),
        ("/controlnet/model_list", "set API_ALLOW=/controlnet/ on the worker"),
        ("/sdapi/v1/../../file", "is no route"),
        ("/sdapi/v1/%2e%2e/x", "is no route"),
        ("http://10.0.0.1/x y", "is no route"),
        ("http://[x", "is no route"),
        ("/v1/download", "models come with the image"),
        ("txt2vid", "did you mean txt2img"),
        ("sdapi/v1/sd-model", "did you mean sd-models"),
    ],
)
def test_other_routes_are_refused_with_a_reason(endpoint: str, message: str) -> None:
    assert message in refused({"api": {"method": "POST", "endpoint": endpoint}})


def test_a_prefix_that_the_worker_allows_may_be_used() -> None:
    policy = InputPolicy(allowed=("/controlnet/",))
    given = {"api": {"method": "GET", "endpoint": "/controlnet/model_list"}}
    assert request_for(given, policy=policy).path == "/controlnet/model_list"
    assert "jobs may not use" in refused({"api": "/controlnets/x"}, policy)


def test_a_route_that_installs_packages_is_allowed_by_its_whole_path_only() -> None:
    path = "/physton_prompt/install_package"
    given = {"api": {"method": "POST", "endpoint": path}, "name": "chardet"}
    error = refused(given, InputPolicy(allowed=("/physton_prompt/",)))
    assert f"jobs may not use {path}: it installs packages - API_ALLOW={path}" in error
    assert request_for(given, policy=InputPolicy(allowed=(path,))).path == path
    for other in ("/tacapi/v1/uninstall", "/x/pip-install", "/install"):
        assert "it installs packages" in refused({"api": other}, InputPolicy(allowed=("/tacapi/",)))
    reads = {"api": {"endpoint": "/tacapi/v1/reinstalled-list"}}
    assert request_for(reads, policy=InputPolicy(allowed=("/tacapi/",)))


def test_unknown_fields_are_named_with_the_nearest_known_one() -> None:
    request = request_for({"prompt": "x", "negatve_prompt": "y", "Steps": 5, "zzz": [1]})
    assert [each.partition(";")[2].strip() for each in request.warnings] == [
        "did you mean negative_prompt?",
        "did you mean steps?",
        "txt2img has no such field",
    ]
    assert request.body == {"prompt": "x", "negatve_prompt": "y", "Steps": 5, "zzz": [1]}


def test_a_strict_worker_refuses_unknown_fields() -> None:
    strict = InputPolicy(refuse_unknown=True)
    message = refused({"prompt": "x", "negatve_prompt": "y"}, strict)
    assert "input.negatve_prompt is not a field of the WebUI" in message
    assert "did you mean negative_prompt?" in message
    assert request_for({"prompt": "x", "clip_skip": 2}, policy=strict).body


@pytest.mark.parametrize(("wrong", "right"), MISNAMED.items())
def test_field_names_of_other_programs_are_warned_about(wrong: str, right: str) -> None:
    given = {"api": "img2img", wrong: "0.5", "init_images": ["aGk="]}
    assert f"did you mean {right}?" in warned(given)


def test_options_at_the_wrong_place_are_moved() -> None:
    given = {"prompt": "x", "clip_skip": 2, "sd_vae": "a.pt", "override_settings": {"eta_ddim": 1}}
    request = request_for(given)
    assert request.body == {
        "prompt": "x",
        "override_settings": {"eta_ddim": 1, "CLIP_stop_at_last_layers": 2, "sd_vae": "a.pt"},
    }
    assert "moved to override_settings.CLIP_stop_at_last_layers" in request.warnings[0]


def test_the_fields_in_an_unknown_object_are_refused() -> None:
    message = refused({"txt2img": {"prompt": "x"}})
    assert "input.txt2img holds the fields of txt2img" in message
    assert "input.payload" in message


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("input", {"api": "options"}),
        ("input.override_settings", {"override_settings": {}}),
    ],
)
def test_options_are_checked_by_name(where: str, given: dict[str, Any]) -> None:
    def with_option(name: str) -> dict[str, Any]:
        inner = given.get("override_settings")
        return {**given, name: 2} if inner is None else {"override_settings": {name: 2}}

    message = refused(with_option("CLIP_stop_at_last_layer"))
    assert f"{where}.CLIP_stop_at_last_layer is no option" in message
    assert "CLIP_stop_at_last_layers" in message
    assert f"{where}.outdir_samples: jobs may not set it" in refused(with_option("outdir_samples"))


def test_a_null_option_is_left_out() -> None:
    given = {"override_settings": {"CLIP_stop_at_last_layers": None, "eta_ddim": 1}}
    request = request_for(given)
    assert request.body == {"override_settings": {"eta_ddim": 1}}
    assert "CLIP_stop_at_last_layers" in request.warnings[0]


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("CLIP_stop_at_last_layers", "2", 2),
        ("eta_ancestral", "0.5", 0.5),
        ("samples_save", "no", False),
    ],
)
def test_a_text_becomes_a_value_of_the_options_type(option: str, text: str, value: Any) -> None:
    request = request_for({"override_settings": {option: text}})
    assert request.body == {"override_settings": {option: value}}
    assert request.warnings == (f"{option}: {text!r} is read as {value!r}",)
    message = refused({"override_settings": {option: "wrong"}})
    assert f"input.override_settings.{option} must be" in message


def test_override_settings_always_end_with_the_job() -> None:
    given = {"override_settings": {"eta_ddim": 1}, "override_settings_restore_afterwards": False}
    request = request_for(given)
    assert request.body
    assert request.body["override_settings_restore_afterwards"] is True
    assert request.warnings == ("override_settings always end with the job",)


def test_a_job_may_lower_its_time_limit_only() -> None:
    assert parse_job_input({"timeout": 5}, TIME_LIMIT).timeout == 5
    assert parse_job_input({"timeout": "5"}, TIME_LIMIT).timeout == 5
    assert "input.timeout must be a number from 1 to 600, not 601" in refused({"timeout": 601})


def test_null_and_empty_text_mean_not_given() -> None:
    given = {"prompt": None, "steps": "", "seed": None, "sampler_index": "", "tiling": None}
    request = request_for({**given, "negative_prompt": "", "mask": "", "api": "img2img"})
    assert request.body == {"negative_prompt": "", "tiling": None}
    assert request.warnings == (
        "null or empty, so the default applies: prompt (''), steps (50), seed (-1), "
        "sampler_index ('Euler')",
    )


@pytest.mark.parametrize(
    ("field", "value", "converted"),
    [
        ("width", "512", 512),
        ("cfg_scale", "7.5", 7.5),
        ("seed", "-1", -1),
        ("restore_faces", "True", True),
        ("tiling", 1, True),
        ("steps", 20.9, 20),
        ("prompt", 5, "5"),
        ("override_settings", [], {}),
    ],
)
def test_values_are_converted_as_the_webui_does(field: str, value: Any, converted: Any) -> None:
    request = request_for({field: value})
    assert request.body == {field: converted}
    assert type(request.body[field]) is type(converted)
    assert f"{field}: " in request.warnings[0]


@pytest.mark.parametrize("given", [{"steps": 20.0}, {"cfg_scale": 7}, {"seed": -2}])
def test_equal_numbers_are_no_change(given: dict[str, Any]) -> None:
    assert request_for(given).body == given
    assert not request_for(given).warnings


@pytest.mark.parametrize(("width", "height", "drawn"), [(480, 853, 848), (640, 643, 640)])
def test_sides_that_the_webui_rounds_down_are_warned_about(
    width: int, height: int, drawn: int
) -> None:
    request = request_for({"width": width, "height": height})
    assert request.body == {"width": width, "height": height}
    assert request.warnings == (
        f"height: the WebUI draws {drawn} of {height} pixels, a multiple of 8",
    )


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("field", ["sampler_name", "sampler_index"])
def test_a_combined_sampler_is_split(release: str, field: str) -> None:
    request = request_for({field: "DPM++ 2M Karras"}, RecordedFacts(release))
    assert request.body == {field: "DPM++ 2M", "scheduler": "Karras"}
    assert "'DPM++ 2M' with scheduler 'Karras'" in request.warnings[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sampler_name": "Euler a"}, {"sampler_name": "Euler a"}),
        (
            {"sampler_name": "Euler a Karras", "scheduler": "exponential"},
            {"sampler_name": "Euler a", "scheduler": "exponential"},
        ),
        (
            {"sampler_name": "Euler SGMUniform", "scheduler": "Automatic"},
            {"sampler_name": "Euler", "scheduler": "SGM Uniform"},
        ),
        (
            {"hr_sampler_name": "DPM++ SDE Karras"},
            {"hr_sampler_name": "DPM++ SDE", "hr_scheduler": "Karras"},
        ),
        ({"sampler_name": "nothing Karras"}, {"sampler_name": "nothing Karras"}),
    ],
)
def test_the_scheduler_that_is_given_counts(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert request_for(given).body == expected


def test_sampler_and_scheduler_are_joined_for_a_release_without_schedulers() -> None:
    description = recorded("v1.9.3")["/openapi.json"]
    paths = {path: description["paths"][path] for path in ("/sdapi/v1/txt2img",)}
    samplers = [{"name": name} for name in ("DPM++ 2M", "DPM++ 2M Karras")]
    old = RecordedFacts(
        "v1.9.3",
        {
            "/openapi.json": {**description, "paths": paths},
            "/sdapi/v1/samplers": samplers,
            "/sdapi/v1/schedulers": None,
        },
    )
    given = {"sampler_name": "DPM++ 2M", "scheduler": "karras"}
    assert request_for(given, old).body == {"sampler_name": "DPM++ 2M Karras"}
    assert request_for({"sampler_name": "DPM++ 2M Karras"}, old).warnings == ()


def test_a_webui_without_description_takes_every_field() -> None:
    facts = RecordedFacts(changes={"/openapi.json": {"detail": "Not Found"}})
    request = request_for({"prompt": "x", "sampler_name": "DPM++ 2M Karras"}, facts)
    assert request.body == {"prompt": "x", "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
    assert "fields were not checked" in request.warnings[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "input must be an object"),
        ("a lighthouse", "input must be an object"),
        ([], "not an empty list"),
        ({"steps": "many"}, "input.steps must be a whole number, not 'many'"),
        ({"steps": [1]}, "input.steps must be a whole number, not a list"),
        ({"cfg_scale": float("nan")}, "input.cfg_scale must be a finite number, not nan"),
        ({"s_tmax": "inf"}, "input.s_tmax must be a finite number"),
        ({"prompt": ["x"]}, "input.prompt must be text, not a list"),
        ({"enable_hr": "perhaps"}, "input.enable_hr must be true or false"),
        ({"enable_hr": True}, "input.denoising_strength is missing - enable_hr needs it"),
        ({"styles": "x"}, "input.styles must be a list"),
        ({"styles": [{}]}, "input.styles[0] must be text"),
        ({"override_settings": 5}, "input.override_settings must be an object"),
        ({"alwayson_scripts": "x"}, "input.alwayson_scripts"),
        ({"alwayson_scripts": {"ADetailer": None}}, "input.alwayson_scripts.ADetailer must be an"),
        ({"alwayson_scripts": {"seed": {"args": {}}}}, 'such as {"args": [...]}'),
        ({"payload": 3}, "input.payload must be an object"),
        ({"api": {"method": "DELETE", "endpoint": "/sdapi/v1/txt2img"}}, "takes POST, not DELETE"),
        ({"api": ["txt2img"]}, "input.api must be the name of a route"),
        ({"api": {"method": 3, "endpoint": "txt2img"}}, "input.api.method must be GET or POST"),
        ({"api": "extras", "resize_mode": 2}, "input.resize_mode must be one of: 0, 1, not 2"),
        ({"api": "extras", "gfpgan_visibility": 3}, "must be at most 1, not 3"),
        ({"api": "extras", "upscaling_resize": 0}, "must be more than 0, not 0"),
        ({"api": "extra-batch-images"}, "input.imageList is missing"),
        ({"api": "extra-batch-images", "imageList": [{"data": "x"}]}, "input.imageList[0] must be"),
        ({"prompt": 10**5 * "x", "steps": "9" * 5000}, "…"),
        ({"x" * 1000: {"prompt": ""}}, "holds the fields"),
    ],
)
def test_an_invalid_field_is_refused_by_name(given: object, message: str) -> None:
    error = refused(given)
    assert message in error
    assert len(error) < 300


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = [path.rpartition("/")[2] for path in recorded("v1.10.1")["/openapi.json"]["paths"]]
FIELD_NAMES = recorded("v1.10.1")["/openapi.json"]["components"]["schemas"]
FIELD = st.sampled_from(
    [
        *FIELD_NAMES["StableDiffusionProcessingImg2Img"]["properties"],
        *("api", "api_name", "payload", "params", "input", "timeout", "method", "endpoint"),
        *("clip_skip", "sd_vae", "num_inference_steps"),
    ]
)
PLAUSIBLE = st.dictionaries(FIELD, ANY_JSON | st.sampled_from(NAMES), max_size=8)


@given(ANY_JSON | PLAUSIBLE)
def test_any_json_is_a_request_or_refused(given: object) -> None:
    request, refusal = None, None
    try:
        request = request_for(given)
    except UserError as failure:
        refusal = failure
    if request is None:
        assert refusal is not None
        assert refusal.code == "input-invalid"
        assert "input" in str(refusal)
        assert len(str(refusal)) < 800
        return
    assert request.route.method in ("GET", "POST")
    assert 1 <= request.timeout <= TIME_LIMIT
    assert all(len(warning) < 2000 for warning in request.warnings)
