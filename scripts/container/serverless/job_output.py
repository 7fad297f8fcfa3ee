"""Check the images of the WebUI's answer, and return or store them."""

from collections.abc import Callable
from typing import Any, Final

from scripts.common.checks.images import check_ends, decode_base64, file_suffix
from scripts.common.diagnostics.error import UserError

MAX_ANSWER: Final = 20_000_000
"""Bytes that RunPod takes for a synchronous answer (10 MB for an asynchronous one)."""

JobResult = dict[str, Any]
Upload = Callable[[bytes, str], str]
"""Stores an image with its file suffix and returns its address."""


def return_images(
    result: JobResult, *, field: str, upload: Upload | None, required: bool = True
) -> JobResult:
    """Check all images of an answer; store them, or leave them in it if they are small enough.

    Args:
        result: the WebUI's answer.
        field: that holds them: `images` for a list, `image` for a single one.
        upload: stores one; None leaves them in the answer as base64.
        required: an empty list is an error.

    Raises:
        UserError: there are none, or one is cut off (code `answer-garbage`), they are too large
            for RunPod, or could not be stored.
    """
    images = result.get(field) if field == "images" else [result.get(field)]
    if not isinstance(images, list) or (required and not images):
        raise invalid_answer("no images")
    try:
        texts = [check_ends(image) for image in images]
    except ValueError as error:
        raise invalid_answer(str(error)) from None
    if upload:
        addresses = _store(texts, upload)
        return {**result, field: addresses if field == "images" else addresses[0]}
    if sum(map(len, texts)) > MAX_ANSWER:
        raise UserError(location=f"over {MAX_ANSWER // 10**6} MB", code="answer-too-large")
    return result


def invalid_answer(content: str) -> UserError:
    """Return the error for an answer that holds something else than was requested."""
    return UserError(f"the WebUI's answer holds {content}", code="answer-garbage")


def _store(images: list[str], upload: Upload) -> list[str]:
    try:
        files = [decode_base64(image) for image in images]
        return [upload(data, file_suffix(data, data[-64:])) for data in files]
    except Exception as error:  # any error of a storage client costs the job, not the worker
        raise UserError(location=type(error).__name__, code="upload-failed") from error
