"""Parsing of a job's input: accepted, warned about and refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.job_input import ENDPOINTS, FIELD_RULES, parse_job_input
from tests.support.errors import user_error

TIME_LIMIT = 600.0


def refused(value: object) -> str:
    error = user_error(parse_job_input, value, TIME_LIMIT)
    assert error.code == "input-invalid"
    return str(error)


def test_plain_fields_are_a_txt2img() -> None:
    request = parse_job_input({"prompt": "a lighthouse", "steps": 20}, TIME_LIMIT)
    assert (request.name, request.endpoint.path) == ("txt2img", "/sdapi/v1/txt2img")
    assert request.body == {"prompt": "a lighthouse", "steps": 20}
    assert request.timeout == TIME_LIMIT
    assert request.warnings == ()


@pytest.mark.parametrize(
    "given",
    [
        {"api": "img2img", "init_images": ["aGk="], "prompt": "x"},
        {"api": "img2img", "payload": {"init_images": ["aGk="], "prompt": "x"}},
        {
            "api": {"method": "POST", "endpoint": "/sdapi/v1/img2img"},
            "payload": {"init_images": ["aGk="], "prompt": "x"},
        },
    ],
)
def test_three_forms_of_img2img_are_equal(given: dict[str, Any]) -> None:
    request = parse_job_input(given, TIME_LIMIT)
    assert request.name == "img2img"
    assert request.body == {"init_images": ["aGk="], "prompt": "x"}


def test_unknown_fields_are_passed_on() -> None:
    request = parse_job_input({"prompt": "x", "some_extension": {"a": [1]}}, TIME_LIMIT)
    assert request.body == {"prompt": "x", "some_extension": {"a": [1]}}


def test_field_names_of_other_programs_are_warned_about() -> None:
    request = parse_job_input({"num_inference_steps": 30, "guidance_scale": 7}, TIME_LIMIT)
    assert "did you mean steps?" in request.warnings[0]
    assert "did you mean cfg_scale?" in request.warnings[1]


def test_override_settings_always_end_with_the_job() -> None:
    settings = {"override_settings": {"a": 1}, "override_settings_restore_afterwards": False}
    request = parse_job_input(settings, TIME_LIMIT)
    assert request.body is not None
    assert request.body["override_settings_restore_afterwards"] is True
    assert request.warnings == ("override_settings always end with the job",)


def test_options_are_read_and_never_written() -> None:
    request = parse_job_input({"api": "options", "samples_format": "jpg"}, TIME_LIMIT)
    assert (request.endpoint.method, request.body) == ("GET", None)
    assert "override_settings" in request.warnings[0]


def test_a_job_may_lower_its_time_limit_only() -> None:
    assert parse_job_input({"timeout": 5}, TIME_LIMIT).timeout == 5
    assert "input.timeout must be a number from 1 to 600, not 601" in refused({"timeout": 601})


def test_null_means_not_given() -> None:
    assert parse_job_input({"prompt": "x", "steps": None}, TIME_LIMIT).body == {
        "prompt": "x",
        "steps": None,
    }


def test_a_whole_number_may_come_as_a_float() -> None:
    assert parse_job_input({"steps": 20.0}, TIME_LIMIT).body == {"steps": 20.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "input must be an object"),
        ("a lighthouse", "input must be an object"),
        ([], "not an empty list"),
        ({"steps": "20"}, "input.steps must be a whole number from 1 to 1000, not '20'"),
        ({"steps": 0}, "input.steps"),
        ({"steps": 20.5}, "input.steps"),
        ({"steps": True}, "input.steps must be a whole number from 1 to 1000, not True"),
        ({"steps": 10**400}, "not a huge number"),
        ({"width": 513}, "in steps of 8, not 513"),
        ({"width": 8192}, "input.width must be a whole number from 64 to 4096"),
        ({"cfg_scale": float("nan")}, "input.cfg_scale must be a number from 0 to 100, not nan"),
        ({"cfg_scale": float("inf")}, "input.cfg_scale"),
        ({"denoising_strength": 1.1}, "input.denoising_strength"),
        ({"prompt": ["x"]}, "input.prompt must be text, not a list"),
        ({"enable_hr": "yes"}, "input.enable_hr must be true or false"),
        ({"override_settings": []}, "input.override_settings must be an object"),
        ({"alwayson_scripts": "x"}, "input.alwayson_scripts"),
        ({"payload": 3}, "input.payload must be an object"),
        ({"api": "txt2vid"}, "input.api must be one of: txt2img, img2img"),
        ({"api": {"endpoint": "/sdapi/v1/server-kill"}}, "server-kill"),
        ({"api": {"method": "DELETE", "endpoint": "/sdapi/v1/txt2img"}}, "input.api"),
        ({"api": ["txt2img"]}, "input.api"),
        ({"api": "img2img"}, "input.init_images is missing"),
        ({"api": "img2img", "init_images": None}, "input.init_images must be a list of at least"),
        ({"api": "img2img", "init_images": []}, "input.init_images"),
        ({"api": "img2img", "init_images": [1]}, "input.init_images"),
        ({"api": "extras"}, "input.image is missing"),
        ({"api": "interrogate"}, "input.image is missing"),
        ({"prompt": 10**5 * "x", "steps": "9" * 1000}, "…"),
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
FIELD = st.sampled_from([*FIELD_RULES, "api", "payload", "timeout", "num_inference_steps"])
PLAUSIBLE = st.dictionaries(FIELD, ANY_JSON | st.sampled_from([*ENDPOINTS]), max_size=8)


@given(ANY_JSON | PLAUSIBLE)
def test_any_json_is_parsed_or_refused(given: object) -> None:
    request, refusal = None, None
    try:
        request = parse_job_input(given, TIME_LIMIT)
    except UserError as failure:
        refusal = failure
    if request is None:
        assert refusal is not None
        assert refusal.code == "input-invalid"
        assert "input" in str(refusal)
        assert len(str(refusal)) < 600
        return
    assert request.name in ENDPOINTS
    assert 1 <= request.timeout <= TIME_LIMIT
    assert (request.body is None) == (request.endpoint.method == "GET")
