"""Values of fields are converted as pydantic v1 does, from which the WebUI's requests are made."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.v1 import BaseModel, Field, ValidationError, create_model

from scripts.container.serverless.request.field_values import MismatchError, convert, describe
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, make_request
from scripts.container.serverless.request.webui_api import MISSING, FieldType, WebuiApi
from tests.support.releases import RELEASES, RecordedFacts, recorded

TYPES = {
    "integer": int,
    "number": float,
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "any": Any,
}
ROUTES = (
    *("txt2img", "img2img", "extra-single-image", "extra-batch-images"),
    *("interrogate", "png-info"),
)


def model_type(kind: FieldType) -> Any:
    """The type that pydantic v1 wrote this description of."""
    if kind.choices:
        return Literal[kind.choices]
    if kind.kind == "array" and kind.items:
        return list[model_type(kind.items)]  # type: ignore[misc]
    if kind.fields:
        return model_of(kind)
    return TYPES[kind.kind]


def model_of(kind: FieldType) -> type[BaseModel]:
    """A request model with these fields, types, limits and defaults."""
    names = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
    fields: dict[str, Any] = {}
    for name, each in (kind.fields or {}).items():
        default = ... if name in kind.required else None
        default = default if each.default is MISSING else each.default
        limits: dict[str, Any] = {names[key]: value for key, value in each.bounds.items()}
        fields[name] = (model_type(each), Field(default, **limits))
    return create_model("Request", **fields)


def body_of(release: str, name: str) -> FieldType:
    [route] = WebuiApi(recorded(release)["/openapi.json"]).find(f"/sdapi/v1/{name}")
    assert route.body
    return route.body


BODIES = {(release, name): body_of(release, name) for release in RELEASES for name in ROUTES}
MODELS = {key: model_of(body) for key, body in BODIES.items()}
FIELDS = [(*key, name) for key, body in BODIES.items() for name in body.fields or ()]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["512", "7.5", "-1", " 5 ", "1e3", "True", "yes", "OFF", "t", "0", "1.0", "nan"]
    )
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, BaseModel):
        return bool(isinstance(ours, dict) and theirs.__fields_set__ <= set(ours))
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return repr(ours) == repr(theirs)  # nan is not equal to itself


@given(st.sampled_from(FIELDS), ANY_JSON)
def test_a_value_is_read_as_the_webui_reads_it(field: tuple[str, str, str], value: Any) -> None:
    release, route, name = field
    kind = (BODIES[release, route].fields or {})[name]
    required: dict[str, Any] = {
        each: [] for each in BODIES[release, route].required if each != name
    }
    try:
        theirs = getattr(MODELS[release, route](**{**required, name: value}), name)
    except ValidationError:
        # Whether null is refused is not in the description: the WebUI itself answers that.
        if "None" not in repr(value):
            with pytest.raises(MismatchError):
                convert(kind, value)
        return
    if value is None or (isinstance(theirs, float) and not math.isfinite(theirs)):
        return
    assert same(convert(kind, value), theirs)


PLAUSIBLE = {
    "integer": st.integers(0, 100) | st.sampled_from(["7", " 5 ", "-1", 7.9, True]),
    "number": st.floats(0, 1) | st.integers(0, 1) | st.sampled_from(["0.5", "1e-1", False]),
    "string": st.text(max_size=5) | st.integers() | st.sampled_from(["Euler a", "DPM++ 2M Karras"]),
    "boolean": st.booleans() | st.sampled_from([0, 1, "yes", "OFF", "True"]),
    "array": st.lists(st.text(max_size=3), max_size=2),
    "object": st.just({}) | st.just([]),
}
# What these change is tested by itself: a name of a sampler, and null or "" for a default.
CHANGED = ("sampler_name", "sampler_index", "scheduler", "hr_sampler_name", "hr_scheduler")
# What the worker refuses on purpose, and an empty image, which the WebUI refuses later.
REFUSED = ("imageList", "image", "enable_hr", "override_settings_restore_afterwards")


@given(st.sampled_from(sorted(key for key in BODIES if key[1] != "png-info")), st.data())
def test_what_the_webui_accepts_is_accepted(key: tuple[str, str], data: st.DataObject) -> None:
    release, route = key
    kinds = {
        n: k for n, k in (BODIES[key].fields or {}).items() if n not in REFUSED and not k.choices
    }
    names = data.draw(st.lists(st.sampled_from(sorted(kinds)), unique=True, max_size=8))
    fields = {name: data.draw(PLAUSIBLE[kinds[name].kind]) for name in names}
    required: dict[str, Any] = {name: [] for name in BODIES[key].required}
    given = {**required, **fields}
    try:
        theirs = MODELS[key](**given)
    except ValidationError:
        return  # a limit of this field
    parsed = parse_job_input({"api": route, "payload": given}, 60)
    request = make_request(parsed, RecordedFacts(release), InputPolicy())
    ours = MODELS[key](**request.fields)
    for name in given:
        if given[name] != "" and name not in CHANGED:
            assert same(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize(("release", "name"), BODIES)
def test_the_models_of_both_releases_are_recorded(release: str, name: str) -> None:
    assert BODIES[release, name].fields


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", "x", "must be a whole number, not 'x'"),
        ("integer", float("inf"), "must be a whole number, not inf"),
        ("number", "nan", "must be a finite number, not 'nan'"),
        ("boolean", 2, "must be true or false, not 2"),
        ("string", {}, "must be text, not an object"),
        ("array", "x", "must be a list, not 'x'"),
        ("object", [1], "must be an object, not a list"),
    ],
)
def test_a_mismatch_says_what_is_expected(kind: str, value: Any, expected: str) -> None:
    with pytest.raises(MismatchError, match=expected):
        convert(FieldType(kind), value)


@given(ANY_JSON)
def test_every_value_is_described_in_few_characters(value: Any) -> None:
    assert len(describe(value)) <= 60
