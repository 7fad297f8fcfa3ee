"""From the WebUI's answer to a job's: nothing echoed, the asked format and delivery, none lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.container.serverless.answer import job_output
from scripts.container.serverless.answer.bucket import Upload
from scripts.container.serverless.answer.output_settings import BucketAccess
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.jobs import run_job
from scripts.container.settings import Settings
from scripts.container.webui.webui_options import read_options, save_options
from tests.support import scripted_webui
from tests.support.request_checks import make_context
from tests.support.scripted_webui import DRAWN, IMAGE, WebUI
from tests.support.webui import png

OTHER = base64.b64encode(png(64, 64, 2)).decode()
ACCESS = {
    "accessId": "the-access-id",
    "accessSecret": "the-access-secret",
    "bucketName": "pictures",
    "endpointUrl": "https://s3.example.com",
}


class Bucket:
    """Keeps uploads, and what it was opened with."""

    def __init__(self) -> None:
        self.opened: list[tuple[BucketAccess, str]] = []
        self.stored: list[tuple[int, str]] = []

    def open(self, access: BucketAccess, job_id: str) -> Upload:
        self.opened.append((access, job_id))

        def upload(image: bytes, suffix: str) -> str:
            self.stored.append((len(image), suffix))
            return f"https://s3.example.com/{len(self.stored)}{suffix}"

        return upload


@pytest.fixture
def webui() -> Iterator[WebUI]:
    with scripted_webui.running() as running:
        yield running


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def context(webui: WebUI, bucket: Bucket, tmp_path: Path) -> JobContext:
    return make_context(webui.client, tmp_path, open_bucket=bucket.open)


@pytest.fixture
def with_bucket(context: JobContext) -> JobContext:
    return replace(context, bucket=BucketAccess("https://own.example.com", "id", "secret"))


def large_image(size: int) -> str:
    """Base64 of about `size` bytes that begins and ends as a PNG does."""
    start, end = png(8, 8, 1)[:33], b"IEND\xaeB`\x82"
    filler = bytes((size * 3 // 4 - len(start) - len(end)) // 3 * 3 + 1)
    return base64.b64encode(start + filler + end).decode()


def drawn_with(parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**DRAWN, "parameters": parameters, **more}


def test_images_of_the_job_are_not_echoed(webui: WebUI, context: JobContext) -> None:
    unit = {"image": {"image": IMAGE, "mask": f"data:image/png;base64,{OTHER}"}, "weight": 0.5}
    parameters = {
        "prompt": "x",
        "init_images": [IMAGE, OTHER],
        "mask": IMAGE,
        "alwayson_scripts": {"controlnet": {"args": [unit, {"input_image": "/9j/" + "A" * 9000}]}},
        "script_args": ["text", 1, True, None],
    }
    webui.on("txt2img", drawn_with(parameters))
    result = run_job({"input": {"prompt": "x"}}, context)
    assert IMAGE not in json.dumps(result["parameters"])
    expected = {"image": {"image": None, "mask": None}, "weight": 0.5}
    assert result["parameters"] == {
        "prompt": "x",
        "init_images": [None, None],
        "mask": None,
        "alwayson_scripts": {"controlnet": {"args": [expected, {"input_image": None}]}},
        "script_args": ["text", 1, True, None],
    }


def test_a_long_prompt_is_not_taken_for_an_image(webui: WebUI, context: JobContext) -> None:
    prompt = "a lighthouse at dawn, " * 500
    webui.on("txt2img", drawn_with({"prompt": prompt}))
    assert run_job({"input": {"prompt": prompt}}, context)["parameters"]["prompt"] == prompt


def test_init_images_come_back_when_the_job_asks_for_them(
    webui: WebUI, context: JobContext
) -> None:
    webui.on("img2img", drawn_with({"init_images": [OTHER], "mask": None}))
    job = {"api": "img2img", "init_images": [OTHER], "include_init_images": True}
    assert run_job({"input": job}, context)["parameters"]["init_images"] == [OTHER]


CONTROLNET = {"alwayson_scripts": {"ControlNet": {"args": [{}]}}, "batch_size": 1, "n_iter": 2}


@pytest.mark.parametrize(
    ("parameters", "asked", "left"),
    [
        (CONTROLNET, {}, 2),
        (CONTROLNET, {"controlnet_maps": True}, 4),
        ({**CONTROLNET, "alwayson_scripts": {"ADetailer": {"args": []}}}, {}, 4),
        ({**CONTROLNET, "script_name": "x/y/z plot"}, {}, 4),
        ({**CONTROLNET, "batch_size": 2}, {}, 4),
    ],
)
def test_maps_of_controlnet_are_returned_on_demand(
    webui: WebUI, context: JobContext, parameters: Any, asked: dict[str, Any], left: int
) -> None:
    images = [IMAGE, IMAGE, OTHER, OTHER]
    webui.on("txt2img", {"images": images, "parameters": parameters, "info": "{}"})
    result = run_job({"input": {"prompt": "x", **asked}}, context)
    assert result["images"] == images[:left]
    assert webui.requests == [("/sdapi/v1/txt2img", {"prompt": "x"})]


def test_a_grid_before_the_images_is_no_map(webui: WebUI, context: JobContext) -> None:
    info = json.dumps({"index_of_first_image": 1})
    images = [OTHER, IMAGE, IMAGE, OTHER]
    webui.on("txt2img", {"images": images, "parameters": CONTROLNET, "info": info})
    assert run_job({"input": {}}, context)["images"] == images[:3]


def test_info_is_returned_raw_and_parsed(webui: WebUI, context: JobContext) -> None:
    info = {"seed": 7, "all_seeds": [7, 8], "infotexts": ["ä lighthouse"]}
    webui.on("txt2img", {**DRAWN, "info": json.dumps(info)})
    result = run_job({"input": {}}, context)
    assert json.loads(result["info"]) == info
    assert (result["parsed_info"], result["seeds"]) == (info, [7, 8])


@pytest.mark.parametrize("info", ["", "no JSON", "[1]", None, 3])
def test_info_of_another_form_is_passed_on(webui: WebUI, context: JobContext, info: Any) -> None:
    webui.on("txt2img", {**DRAWN, "info": info})
    assert run_job({"input": {}}, context) == {**DRAWN, "info": info}


@pytest.mark.parametrize(
    ("job_id", "megabytes", "fits"),
    [
        ("5f0c-u1", 9.9, True),
        ("5f0c-u1", 10.1, False),
        ("sync-5f0c-e1", 10.1, True),
        ("sync-5f0c-e1", 19.9, True),
        ("sync-5f0c-e1", 20.1, False),
        ("", 10.1, False),
    ],
)
def test_the_whole_answer_is_held_against_the_limit_of_its_route(
    webui: WebUI, context: JobContext, job_id: str, megabytes: float, fits: bool
) -> None:
    webui.on("txt2img", {**DRAWN, "images": [large_image(int(megabytes * 1e6))]})
    result = run_job({"id": job_id, "input": {}}, context)
    assert ("error" not in result) == fits
    if not fits:
        assert "[answer-too-large]" in result["error"]
        assert '"output": {"format": "jpg"}' in result["error"]
        assert "s3Config" in result["error"]


def test_text_counts_as_it_is_sent(webui: WebUI, context: JobContext) -> None:
    """Quotes are escaped, and letters beyond ASCII are sent as UTF-8."""
    result = {"a": 'ä "quoted"\n', "images": [IMAGE, OTHER], "image": IMAGE}
    sent = json.dumps({"output": result}, ensure_ascii=False).encode()
    assert job_output.measure_answer(result) == len(sent)
    webui.on("samplers", [{"name": '"' * 5_000_000}])
    assert "[answer-too-large]" in run_job({"input": {"api": "samplers"}}, context)["error"]


def test_images_go_to_the_workers_bucket(
    webui: WebUI, with_bucket: JobContext, bucket: Bucket
) -> None:
    webui.on("txt2img", {**DRAWN, "images": [IMAGE, OTHER]})
    result = run_job({"id": "job-1", "input": {}}, with_bucket)
    assert result["images"] == [f"https://s3.example.com/{n}.png" for n in (1, 2)]
    assert [size for size, _ in bucket.stored] == [len(png(64, 64, seed)) for seed in (1, 2)]
    assert [(access.endpoint_url, job) for access, job in bucket.opened] == [
        ("https://own.example.com", "job-1")
    ]


def test_an_upscaled_image_goes_to_the_bucket_too(webui: WebUI, with_bucket: JobContext) -> None:
    webui.on("extra-single-image", {"html_info": "", "image": IMAGE})
    result = run_job({"input": {"api": "extras", "image": IMAGE}}, with_bucket)
    assert result["image"] == "https://s3.example.com/1.png"


def test_a_job_may_ask_for_base64_though_there_is_a_bucket(
    webui: WebUI, with_bucket: JobContext, bucket: Bucket
) -> None:
    webui.on("txt2img", DRAWN)
    result = run_job({"input": {"output": {"delivery": "base64"}}}, with_bucket)
    assert result["images"] == [IMAGE]
    assert not bucket.opened


def test_base64_that_is_too_large_is_uploaded_with_a_warning(
    webui: WebUI, with_bucket: JobContext
) -> None:
    webui.on("txt2img", {**DRAWN, "images": [large_image(11_000_000)]})
    result = run_job({"input": {"output": {"delivery": "base64"}}}, with_bucket)
    assert result["images"] == ["https://s3.example.com/1.png"]
    assert "11 MB, over RunPod's limit" in result["warnings"][0]


def test_delivery_to_a_bucket_that_is_not_there_fails_before_drawing(
    webui: WebUI, context: JobContext
) -> None:
    result = run_job({"input": {"output": {"delivery": "s3"}}}, context)
    assert "[bucket-missing]" in result["error"]
    assert webui.requests == []


@pytest.mark.parametrize(
    "job",
    [
        {"input": {"prompt": "x"}, "s3Config": ACCESS},
        {"input": {"prompt": "x", "s3Config": ACCESS}},
        {"input": {"payload": {"prompt": "x", "s3Config": ACCESS}}},
    ],
)
def test_a_job_brings_its_own_bucket(
    webui: WebUI,
    with_bucket: JobContext,
    bucket: Bucket,
    capfd: pytest.CaptureFixture[str],
    job: dict[str, Any],
) -> None:
    webui.on("txt2img", DRAWN)
    result = run_job(job, with_bucket)
    [(access, _)] = bucket.opened
    assert (access.name, access.access_secret, access.is_of_job) == (
        "pictures",
        "the-access-secret",
        True,
    )
    assert webui.requests == [("/sdapi/v1/txt2img", {"prompt": "x"})]
    shown = f"{result}{access!r}{capfd.readouterr().err}"
    assert "the-access" not in shown


def test_a_failed_upload_is_an_error_without_secrets(
    webui: WebUI, context: JobContext, capfd: pytest.CaptureFixture[str]
) -> None:
    from scripts.container.serverless.answer.bucket import upload_error

    class ClientError(Exception):  # as botocore's
        def __init__(self, text: str) -> None:
            self.response = {"Error": {"Code": "AccessDenied", "Message": "the-access-id"}}
            super().__init__(text)

    def open_bucket(*_: object) -> Upload:
        raise upload_error(ClientError("the-access-secret"))

    webui.on("txt2img", DRAWN)
    job = {"input": {}, "s3Config": ACCESS}
    result = run_job(job, replace(context, open_bucket=open_bucket))
    assert "[upload-failed]" in result["error"]
    assert "ClientError AccessDenied" in result["error"]
    assert "the-access" not in f"{result}{capfd.readouterr().err}"


@pytest.mark.parametrize(
    ("job", "named"),
    [
        ({"input": {"output": {"format": "bmp"}}}, "output.format must be one of: png, jpg, webp"),
        ({"input": {"output": {"format": 1}}}, "output.format"),
        ({"input": {"output": {"quality": 0}}}, "output.quality"),
        ({"input": {"output": {"quality": True}}}, "output.quality"),
        ({"input": {"output": {"delivery": "ftp"}}}, "output.delivery must be one of: base64, s3"),
        ({"input": {"output": {"fromat": "jpg"}}}, "output must be an object"),
        ({"input": {"output": "jpg"}}, "output must be an object"),
        ({"input": {"controlnet_maps": "yes"}}, "controlnet_maps must be true or false"),
        ({"input": {"override_settings": {"samples_format": "avif"}}}, "output.format"),
        ({"input": {}, "s3Config": "the-access-secret"}, "s3Config must be an object"),
        ({"input": {}, "s3Config": {**ACCESS, "bucketName": ""}}, "s3Config.bucketName"),
        ({"input": {}, "s3Config": {**ACCESS, "accessSecret": None}}, "s3Config.accessSecret"),
        (
            {"input": {}, "s3Config": {**ACCESS, "endpointUrl": "file:///the-access-id"}},
            "s3Config.endpointUrl",
        ),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(
    webui: WebUI, context: JobContext, job: dict[str, Any], named: str
) -> None:
    error = run_job(job, context)["error"]
    assert "[input-invalid]" in error
    assert named in error
    assert "the-access" not in error
    assert webui.requests == []


@pytest.mark.parametrize("empty", [None, {}, {"format": None, "quality": None}])
def test_empty_settings_count_as_none(webui: WebUI, context: JobContext, empty: Any) -> None:
    webui.on("txt2img", DRAWN)
    job = {"input": {"prompt": "x", "output": empty, "controlnet_maps": None}, "s3Config": None}
    assert run_job(job, context) == DRAWN
    assert webui.requests == [("/sdapi/v1/txt2img", {"prompt": "x"})]


class Encoder:
    """A WebUI that encodes as upstream does: by its options, restored before, saved with each."""

    def __init__(self, webui: WebUI, settings: Settings) -> None:
        self.options: dict[str, Any] = {"samples_format": "png", "jpeg_quality": 80}
        self.saved_while_drawing: dict[str, Any] = {}
        self.requests: list[str] = []
        self.settings = settings
        self.encoded: list[tuple[str, int]] = []
        webui.on("options", self.get_or_set)
        webui.on("txt2img", self.draw)

    def get_or_set(self, changes: Mapping[str, Any] | None) -> Any:
        self.requests.append("set" if changes else "read")
        if changes is None:
            return self.options
        self.options.update(changes)
        save_options(self.settings, self.options)
        return {}

    def draw(self, _: Any) -> Any:
        self.saved_while_drawing = read_options(self.settings)
        self.encoded.append((self.options["samples_format"], self.options["jpeg_quality"]))
        return DRAWN


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def encoder(webui: WebUI, settings: Settings) -> Encoder:
    return Encoder(webui, settings)


@pytest.fixture
def saving(context: JobContext, settings: Settings) -> JobContext:
    return replace(context, save_options=lambda options: save_options(settings, options))


@pytest.mark.parametrize(
    ("fields", "encoded"),
    [
        ({"output": {"format": "jpg", "quality": 40}}, ("jpg", 40)),
        ({"output": {"format": "JPEG"}}, ("jpg", 80)),
        ({"output": {"format": "webp", "quality": 90.0}}, ("webp", 90)),
        ({"output": {"quality": 30}}, ("png", 30)),
        ({"override_settings": {"samples_format": "jpg", "jpeg_quality": 50}}, ("jpg", 50)),
        (
            {"output": {"format": "png"}, "override_settings": {"samples_format": "jpg"}},
            ("png", 80),
        ),
        ({}, ("png", 80)),
    ],
)
def test_images_are_encoded_as_the_job_asks(
    encoder: Encoder, saving: JobContext, fields: dict[str, Any], encoded: tuple[str, int]
) -> None:
    before = dict(encoder.options)
    assert "error" not in run_job({"input": fields}, saving)
    assert encoder.encoded == [encoded]
    assert encoder.options == before


def test_the_saved_settings_are_never_those_of_a_job(encoder: Encoder, saving: JobContext) -> None:
    """Whatever ends the worker while it draws, the next start finds its own settings."""
    run_job({"input": {"output": {"format": "jpg"}}}, saving)
    assert encoder.saved_while_drawing["samples_format"] == "png"
    assert read_options(encoder.settings)["samples_format"] == "png"


def test_a_quality_is_restored_as_the_integer_that_encoders_want(
    encoder: Encoder, saving: JobContext
) -> None:
    encoder.options["jpeg_quality"] = 80.0  # as the WebUI shows 80
    run_job({"input": {"output": {"format": "jpg", "quality": 50}}}, saving)
    assert isinstance(encoder.options["jpeg_quality"], int)


def test_a_job_that_fails_leaves_the_format_as_it_was(
    webui: WebUI, encoder: Encoder, saving: JobContext
) -> None:
    webui.on("txt2img", (500, {"error": "RuntimeError", "errors": "broken", "detail": ""}))
    assert "broken" in run_job({"input": {"output": {"format": "jpg"}}}, saving)["error"]
    assert encoder.options["samples_format"] == "png"


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ({"prompt": "x"}, []),
        ({"output": {"format": "png"}}, ["read"]),
        ({"output": {"format": "jpg"}}, ["read", "set", "set"]),
    ],
)
def test_no_option_is_set_in_vain(
    encoder: Encoder, saving: JobContext, fields: dict[str, Any], requests: list[str]
) -> None:
    run_job({"input": {"steps": 1}}, saving)  # facts about the WebUI are read once
    encoder.requests.clear()
    run_job({"input": fields}, saving)
    assert encoder.requests == requests
