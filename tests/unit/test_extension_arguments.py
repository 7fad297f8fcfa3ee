"""Arguments for scripts of extensions are put into the form of A1111, or refused by place."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from tests.support.errors import user_error
from tests.support.releases import RecordedFacts, recorded, recorded_extensions
from tests.support.webui import png

FACTS = RecordedFacts("v1.9.3", recorded_extensions())
POLICY = InputPolicy()
STRICT = InputPolicy(refuse_unknown=True)
IMAGE = base64.b64encode(png(8, 8, 1)).decode()
AD = {"ad_model": "mediapipe_face_short"}
UNIT = {"enabled": True, "module": "canny", "model": "control_canny", "image": IMAGE}


def request_for(
    scripts: object, policy: InputPolicy = POLICY, facts: Any = FACTS, **fields: Any
) -> JobRequest:
    given = {"prompt": "x", "alwayson_scripts": scripts, **fields}
    return make_request(parse_job_input(given, 600.0), facts, policy)


def arguments(name: str, content: object, **fields: Any) -> tuple[Any, str]:
    """Return the arguments as they are sent, and the warnings."""
    request = request_for({name: content}, **fields)
    assert request.body is not None
    return request.body["alwayson_scripts"][name], "; ".join(request.warnings)


def refusal(name: str, content: object, policy: InputPolicy = POLICY, **fields: Any) -> str:
    error = user_error(lambda: request_for({name: content}, policy, **fields))
    assert error.code == "input-invalid"
    return str(error)


@pytest.mark.parametrize("name", ["ADetailer", "adetailer"])
@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ({"args": [True, False, AD]}, ""),
        ({"args": [True, AD]}, "false was put before the first unit"),
        ({"args": [AD]}, "true, false was put before the first unit"),
        ({"args": [None, None, AD]}, ""),
        ({"args": ["true", 0, AD]}, ""),
        ([AD], 'the list is read as {"args": [...]}'),
        ([True, False, AD], "the list is read as"),
        ({"args": AD}, "the object is read as a list of one"),
        (AD, 'the object is read as {"args": [{...}]}'),
    ],
)
def test_every_clear_form_of_adetailers_arguments_is_one(
    name: str, content: object, warning: str
) -> None:
    sent, warnings = arguments(name, content)
    assert sent == {"args": [True, False, AD]}
    assert warning in warnings
    assert bool(warnings) == bool(warning)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ({**AD, "ad_promt": "x"}, "args[2].ad_promt is not a field of the extension - did you"),
        ({**AD, "prompt": "x"}, "did you mean ad_prompt?"),
        ({**AD, "ad_confidence": 3}, "args[2].ad_confidence must be at most 1, not 3"),
        ({**AD, "ad_steps": 0}, "args[2].ad_steps must be more than 0, not 0"),
        ({**AD, "ad_mask_k": "many"}, "args[2].ad_mask_k must be a whole number, not 'many'"),
        ({**AD, "ad_prompt": ["x"]}, "args[2].ad_prompt must be text, not a list"),
        ({**AD, "ad_mask_merge_invert": "Both"}, "must be one of: 'None', 'Merge', 'Merge and In"),
        ("face_yolov8n.pt", "args[2] must be an object, not 'face_yolov8n.pt'"),
    ],
)
def test_a_unit_that_adetailer_would_ignore_is_refused(unit: object, message: str) -> None:
    assert message in refusal("ADetailer", {"args": [True, False, unit]})


def test_adetailers_values_are_converted_as_it_converts_them() -> None:
    unit = {**AD, "ad_confidence": "0.5", "ad_use_steps": 1, "ad_prompt": None, "ad_vae": None}
    sent, warnings = arguments("ADetailer", {"args": [True, False, unit]})
    assert sent["args"][2] == {**AD, "ad_confidence": 0.5, "ad_use_steps": True, "ad_vae": None}
    assert "ad_confidence: '0.5' is read as 0.5" in warnings
    assert "ad_prompt is null: the default applies" in warnings


def test_adetailers_combined_sampler_is_split() -> None:
    unit = {**AD, "ad_use_sampler": True, "ad_sampler": "DPM++ 2M Karras"}
    sent, warnings = arguments("ADetailer", {"args": [True, False, unit]})
    assert sent["args"][2]["ad_sampler"] == "DPM++ 2M"
    assert sent["args"][2]["ad_scheduler"] == "Karras"
    assert "'DPM++ 2M Karras' is 'DPM++ 2M' with 'Karras'" in warnings


def test_a_unit_without_its_model_does_nothing_and_says_so() -> None:
    _, warnings = arguments("ADetailer", {"args": [True, False, {"ad_prompt": "x"}]})
    assert "args[2] names no ad_model and does nothing" in warnings


@pytest.mark.parametrize(
    ("name", "units", "message"),
    [
        ("ADetailer", [AD] * 5, "args has 5 units of at most 4 - the option ad_max_models"),
        ("controlnet", [UNIT] * 4, "args has 4 units of at most 3 - the option control_net_unit_c"),
    ],
)
def test_more_units_than_there_are_tabs_are_refused(
    name: str, units: list[object], message: str
) -> None:
    assert message in refusal(name, {"args": units})


@pytest.mark.parametrize(
    "content", [{"args": [UNIT]}, [UNIT], {"args": UNIT}, UNIT, {"args": [UNIT, None]}]
)
def test_every_clear_form_of_a_controlnet_unit_is_sent(content: Any) -> None:
    sent, _ = arguments("ControlNet", content)
    assert sent["args"][0] == UNIT


@pytest.mark.parametrize(
    ("given", "sent", "warning"),
    [
        ({"guidance": 0.5}, {"guidance_end": 0.5}, "args[0].guidance is named guidance_end now"),
        ({"lowvram": True}, {"low_vram": True}, "lowvram is named low_vram now"),
        ({"mask_image": IMAGE}, {"mask": IMAGE}, "mask_image is named mask now"),
        ({"resize_mode": 1}, {"resize_mode": "Crop and Resize"}, "1 is 'Crop and Resize' now"),
        ({"resize_mode": "2"}, {"resize_mode": "Resize and Fill"}, "2 is 'Resize and Fill' now"),
        ({"control_mode": 0}, {"control_mode": "Balanced"}, "0 is 'Balanced' now"),
        ({"weight": "0.5"}, {"weight": 0.5}, "'0.5' is read as 0.5"),
        ({"module": None}, {}, "module is null: the default applies"),
        ({"guessmode": False}, {"guessmode": False}, "guessmode is not a field of the extension"),
        ({"threshold_A": 5}, {"threshold_A": 5}, "did you mean threshold_a?"),
    ],
)
def test_what_older_clients_send_to_controlnet_is_understood(
    given: dict[str, Any], sent: dict[str, Any], warning: str
) -> None:
    unit = {**UNIT, "module": "reference_only", **given}
    found, warnings = arguments("controlnet", {"args": [unit]})
    kept = {key: value for key, value in unit.items() if key not in given}
    assert found["args"] == [{**kept, **sent}]
    assert warning in warnings


def test_a_unit_without_enabled_is_used_as_in_older_versions() -> None:
    unit = {key: value for key, value in UNIT.items() if key != "enabled"}
    sent, warnings = arguments("controlnet", {"args": [unit]})
    assert sent["args"][0]["enabled"] is True
    assert "args[0] has no enabled" in warnings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "args[0].image is missing - its unit is enabled and needs one"),
        ({"image": ""}, "args[0].image is missing"),
        ({"image": "/etc/passwd"}, "args[0].image is no image in base64"),
        ({"mask": "nonsense"}, "args[0].mask is no image in base64"),
        ({"model": "None"}, "args[0].model is missing - the module 'canny' needs one"),
        ({"weight": 3}, "args[0].weight must be at most 2, not 3"),
        ({"weight": "heavy"}, "args[0].weight must be a number, not 'heavy'"),
        ({"guidance_start": 0.9, "guidance_end": 0.1}, "guidance_start must be at most guidance_e"),
        ({"resize_mode": "Fill"}, "args[0].resize_mode must be one of: 'Just Resize', 'Crop and"),
        ({"control_mode": 7}, "args[0].control_mode must be one of: 'Balanced'"),
        ({"enabled": "perhaps"}, "args[0].enabled must be true or false"),
        ({"guidance": 1, "guidance_end": 1}, "has both guidance and guidance_end, which are one"),
    ],
)
def test_a_unit_that_controlnet_fails_on_is_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal("controlnet", {"args": [{**UNIT, **changes}]})


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"enabled": False, "image": None}, {}),
        ({"module": "reference_only", "model": "None"}, {}),
        ({"image": "https://example.org/a.png"}, {}),
        ({"image": None, "ipadapter_input": ["AAAA"]}, {}),
        ({"image": None}, {"api": "img2img", "init_images": [IMAGE]}),
        ({"image": {"image": IMAGE, "mask": IMAGE}}, {}),
    ],
)
def test_a_unit_that_works_is_left_as_it_is(changes: dict[str, Any], fields: Any) -> None:
    sent, warnings = arguments("controlnet", {"args": [{**UNIT, **changes}]}, **fields)
    assert sent == {"args": [{**UNIT, **changes}]}
    assert not warnings


def test_an_unknown_field_of_a_unit_is_refused_where_unknown_fields_are() -> None:
    content = {"args": [{**UNIT, "modul": "canny"}]}
    message = "args[0].modul is not a field of the extension - did you mean module?"
    assert message in refusal("controlnet", content, STRICT)
    assert "modul is not a field" in arguments("controlnet", content)[1]


def test_options_of_extensions_are_sent_with_a_warning() -> None:
    extensions = {"/sdapi/v1/extensions": [{"name": "sd-webui-controlnet"}]}
    facts = RecordedFacts("v1.9.3", {**recorded_extensions(), **extensions})
    options = {"control_net_no_detectmap": True}
    request = request_for({}, facts=facts, override_settings=options)
    assert request.body is not None
    assert request.body["override_settings"] == options
    assert "may be an extension's" in "; ".join(request.warnings)
    near = {"CLIP_stop_at_last_layer": 2}
    assert "is no option" in str(
        user_error(lambda: request_for({}, facts=facts, override_settings=near))
    )
    assert "is no option" in str(user_error(lambda: request_for({}, override_settings=options)))


def test_arguments_over_the_number_of_any_script_are_a_warning() -> None:
    content = {"args": [True] * 22}
    assert "the script takes 20 of the 22 arguments" in arguments("Regional Prompter", content)[1]


@pytest.mark.parametrize("content", [{"args": {}}, {"args": None}, {"args": "x"}, 3, None, "x"])
@pytest.mark.parametrize("name", ["regional prompter", "ADetailer", "controlnet", "nobody"])
def test_arguments_in_no_clear_form_are_refused(name: str, content: object) -> None:
    assert 'must be an object such as {"args": [...]}' in refusal(name, content)


def test_a_webui_that_describes_no_units_takes_them_as_they_are() -> None:
    bare = RecordedFacts("v1.9.3", {"/sdapi/v1/script-info": []})
    content = {"ADetailer": {"args": [{"ad_promt": "x"}]}, "controlnet": {"args": [{"x": 1}] * 9}}
    request = request_for(content, facts=bare)
    assert request.body is not None
    assert request.body["alwayson_scripts"] == content


FIELD = st.sampled_from(
    [
        *recorded("extensions")["/adetailer/v1/schema"]["properties"],
        *recorded("extensions")["/sdapi/v1/script-info"][1]["args"][0]["value"],
        *("args", "guidance", "lowvram"),
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELD, inner, max_size=4),
    max_leaves=9,
)


@drawn(st.sampled_from(["ADetailer", "controlnet", "seed"]), ANY_JSON)
def test_any_arguments_are_sent_or_refused(name: str, content: object) -> None:
    refused = None
    try:
        request_for({name: content})
    except UserError as error:
        refused = error
    if refused:
        assert refused.code == "input-invalid"
        assert len(str(refused)) < 1200
