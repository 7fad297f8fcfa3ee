"""The pictures in the WebUI's answer: whole or not, small enough, or stored elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from scripts.common.diagnostics.error import UserError

MAX_ANSWER: Final = 20_000_000
"""Bytes that RunPod takes for a synchronous answer (10 MB for an asynchronous one)."""

_LOOK: Final = 64  # characters of base64 at each end of a picture: whole groups of four

Result = dict[str, Any]


def delivered(
    result: Result, field: str, pictures: list[str], upload: Callable[[bytes, str], str] | None
) -> Result:
    """The answer as it may be returned: pictures stored elsewhere, or small enough to be inside.

    Args:
        result: the WebUI's answer.
        field: where its pictures are: `images`, or `image` for a single one.
        pictures: in base64, whole.
        upload: takes a picture and its suffix and returns its address; None to leave them inside.

    Raises:
        UserError: they are too large for RunPod, or could not be stored.
    """
    if upload:
        stored = _uploaded(pictures, upload)
        return {**result, field: stored if field == "images" else stored[0]}
    if sum(map(len, pictures)) > MAX_ANSWER:
        raise UserError(
            f"the pictures are larger than the {MAX_ANSWER // 10**6} MB that RunPod takes",
            code="answer-too-large",
        )
    return result


def in_answer(result: Result, *, expected: bool) -> list[str]:
    """The pictures in an answer, each looked at for being whole.

    Raises:
        UserError: there are none, or one is cut off (code `answer-garbage`).
    """
    images = result.get("images")
    if not isinstance(images, list) or (expected and not images):
        raise garbage("no pictures")
    return [whole(image) for image in images]


def whole(image: object) -> str:
    """A picture in base64, looked at where it begins and ends, which is quick at any length."""
    text = str(image)
    try:
        ends = _decoded(text[:_LOOK]), _decoded(text[-_LOOK:])
    except ValueError:
        raise garbage("a picture that is no base64") from None
    if len(text) % 4 or not suffix(*ends):
        raise garbage("a picture that is cut off or none at all")
    return text


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def suffix(start: bytes, end: bytes) -> str:
    """`.png`, `.jpg` or `.webp` for a picture that begins and ends as one; else empty."""
    if start.startswith(b"\x89PNG\r\n\x1a\n") and end.endswith(b"IEND\xaeB`\x82"):
        return ".png"
    if start.startswith(b"\xff\xd8\xff") and end.rstrip(b"\0").endswith(b"\xff\xd9"):
        return ".jpg"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return ".webp"  # says its length, but no more at its end
    return ""


def garbage(what: str) -> UserError:
    """The failure of an answer that holds no whole picture."""
    return UserError(
        f"the WebUI's answer holds {what}",
        code="answer-garbage",
    )


def _uploaded(pictures: list[str], upload: Callable[[bytes, str], str]) -> list[str]:
    try:
        files = [_decoded(picture) for picture in pictures]
        return [upload(data, suffix(data[:_LOOK], data[-_LOOK:])) for data in files]
    except Exception as error:  # whatever a storage client raises, the job is lost, not the worker
        raise UserError(
            f"the pictures were drawn, but not stored: {type(error).__name__}",
            code="upload-failed",
        ) from error
