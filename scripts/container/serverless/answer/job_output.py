"""Turn the WebUI's answer into a job's: checked images, no echoed input, within RunPod's limits."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from scripts.common.checks.images import check_ends, decode_base64, file_suffix
from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.common.webui_flags import SECRET_FLAGS
from scripts.container.serverless.answer.bucket import Upload
from scripts.container.serverless.answer.output_settings import Delivery, OutputSettings

SYNC_LIMIT: Final = 20_000_000
"""Bytes that RunPod takes as the result of a job sent to /runsync; its id begins with `sync-`."""

ASYNC_LIMIT: Final = 10_000_000
"""Bytes that RunPod takes as the result of a job sent to /run.

Source of both: https://docs.runpod.io/serverless/endpoints/send-requests, 2026-08. A larger result
is refused with status 400, and the job counts as completed without an output.
"""

JobResult = dict[str, Any]
Place = tuple[str, int | None]
"""Field of an answer that holds an image, and the index in it if it is a list."""

# What base64 begins with for PNG, JPEG, WebP, GIF, BMP and TIFF, and data URIs.
_IMAGE: Final = re.compile(r"(data:image/|iVBORw0KGgo|/9j/|UklGR|R0lGOD|Qk[0-3]|SUkqA|TU0AK)")
_SHORTEST: Final = 64  # characters; the smallest PNG has 92
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4096}")  # of other content; no prompt is so long


def check_images(result: JobResult, *, field: str, required: bool = True) -> None:
    """Check all images of an answer.

    Args:
        result: the WebUI's answer.
        field: that holds them: `images` for a list, `image` for a single one.
        required: an empty list is an error.

    Raises:
        UserError: there are none, or one is cut off (code `answer-garbage`).
    """
    images = result.get(field) if field == "images" else [result.get(field)]
    if not isinstance(images, list) or (required and not images):
        raise invalid_answer("no images")
    try:
        for image in images:
            check_ends(image)
    except ValueError as error:
        raise invalid_answer(str(error)) from None


def tidy_answer(result: JobResult, output: OutputSettings, *, keep_init_images: bool) -> JobResult:
    """Return an answer without the job's own images, with `info` parsed beside its text.

    `parameters` keeps every field; images in it, however deep, become null. ControlNet appends the
    maps it made to `images`; they are left out unless the job asks for them.

    Args:
        result: the WebUI's answer.
        output: what the job asks for.
        keep_init_images: the job asked for `include_init_images`.
    """
    tidied = dict(result)
    info = parse_info(result)
    parameters = result.get("parameters")
    if isinstance(parameters, dict):
        kept = ("init_images", "mask") if keep_init_images else ()
        tidied["parameters"] = {
            name: value if name in kept else _without_images(value)
            for name, value in parameters.items()
        }
        if not output.controlnet_maps and isinstance(result.get("images"), list):
            tidied["images"] = _without_maps(result["images"], parameters, info)
    if info:
        tidied["parsed_info"] = info
        if isinstance(info.get("all_seeds"), list):
            tidied["seeds"] = info["all_seeds"]
    return tidied


def hide_secret_flags(result: JobResult) -> JobResult:
    """Return the WebUI's flags without those that hold passwords and tokens of the worker."""
    secret = {flag.removeprefix("--").replace("-", "_") for flag in SECRET_FLAGS}
    return {name: None if name in secret else value for name, value in result.items()}


def deliver(
    result: JobResult,
    *,
    job_id: str,
    delivery: Delivery | None,
    open_upload: Callable[[], Upload] | None,
) -> JobResult:
    """Upload an answer's images, or leave them in it as base64, and check its size.

    Args:
        result: the answer, complete but for this.
        job_id: RunPod's, by which the limit is known.
        delivery: as the job asks; None uploads where there is a bucket.
        open_upload: opens the bucket; None where there is none.

    Raises:
        UserError: the answer is too large and there is no bucket (code `answer-too-large`), or the
            images could not be uploaded.
    """
    if open_upload and delivery != "base64":
        result = _upload_images(result, open_upload)
    limit = SYNC_LIMIT if job_id.startswith("sync-") else ASYNC_LIMIT
    length = measure_answer(result)
    if length > limit and open_upload and delivery == "base64":
        warning = (
            f"the images were uploaded: as base64 they are {size(length)}, over RunPod's limit"
        )
        warnings = [*result.get("warnings", ()), warning]
        result = {**_upload_images(result, open_upload), "warnings": warnings}
        length = measure_answer(result)
    if length > limit:
        route = "/runsync" if limit == SYNC_LIMIT else "/run"
        location = f"{size(length)}, and RunPod takes {size(limit)} from {route}"
        raise UserError(location=location, code="answer-too-large")
    return result


def measure_answer(result: JobResult) -> int:
    """Return the bytes of an answer as RunPod's SDK sends it (`rp_http._handle_result`).

    Base64 is sent as it is, so it is counted without being encoded once more.
    """
    images = dict(_find_images(result))
    rest = _replace_images(result, dict.fromkeys(images, ""))
    sent = json.dumps({"output": rest}, ensure_ascii=False).encode("utf-8", "replace")
    return len(sent) + sum(map(len, images.values()))


def invalid_answer(content: str) -> UserError:
    """Return the error for an answer that holds something else than was requested."""
    return UserError(f"the WebUI's answer holds {content}", code="answer-garbage")


def _upload_images(result: JobResult, open_upload: Callable[[], Upload]) -> JobResult:
    """Replace every image of an answer by its address."""
    files = {place: decode_base64(text) for place, text in _find_images(result)}
    if not files:
        return result
    upload = open_upload()
    addresses = {
        place: upload(file, file_suffix(file, file[-64:])) for place, file in files.items()
    }
    return _replace_images(result, addresses)


def _replace_images(result: JobResult, texts: Mapping[Place, str]) -> JobResult:
    """Return an answer with other texts at the places of images."""
    replaced = dict(result)
    if isinstance(result.get("images"), list):
        replaced["images"] = list(result["images"])
    for (field, index), text in texts.items():
        if index is None:
            replaced[field] = text
        else:
            replaced[field][index] = text
    return replaced


def _find_images(result: JobResult) -> Iterator[tuple[Place, str]]:
    """Yield place and base64 of every image that is the answer's own."""
    images = result.get("images")
    for index, image in enumerate(images if isinstance(images, list) else ()):
        if isinstance(image, str) and _IMAGE.match(image):
            yield ("images", index), image
    image = result.get("image")
    if isinstance(image, str) and _IMAGE.match(image):
        yield ("image", None), image


def parse_info(answer: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return what an answer says about its images; empty where it does not."""
    text = answer.get("info") if isinstance(answer, dict) else None
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_images(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with null for every image in it."""
    if isinstance(value, dict):
        return {name: _without_images(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_images(each) for each in value]
    return None if isinstance(value, str) and _is_image(value) else value


def _is_image(text: str) -> bool:
    if len(text) < _SHORTEST:
        return False
    return bool(_IMAGE.match(text) or _BASE64.match(text))


def _without_maps(images: list[Any], parameters: dict[str, Any], info: dict[str, Any]) -> list[Any]:
    """Return the images without ControlNet's maps, which follow those that were asked for.

    Source: `postprocess` in `scripts/controlnet.py` of Mikubill/sd-webui-controlnet.
    """
    scripts, count = parameters.get("alwayson_scripts"), 0
    uses_controlnet = isinstance(scripts, dict) and any(
        str(name).lower() == "controlnet" for name in scripts
    )
    if not uses_controlnet or parameters.get("script_name"):
        return images
    try:
        count = int(parameters["batch_size"]) * int(parameters["n_iter"])
        count += int(info.get("index_of_first_image") or 0)  # a grid comes before them
    except (KeyError, TypeError, ValueError):
        return images
    return images[:count] if count > 0 else images
