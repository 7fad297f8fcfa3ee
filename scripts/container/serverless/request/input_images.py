"""Find the images in the fields of a request, and fetch those that are given by address."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError

FETCH_TIME: Final = 30.0
"""Seconds that all images of a job together may take to fetch."""

OWN: Final = (
    *("init_images", "mask", "image", "imageList"),
    *("controlnet_units", "controlnet_input_images"),
)
"""Fields that hold images: of the WebUI (`decode_base64_to_image` in `modules/api/api.py`), and of
ControlNet's own routes."""

UNIT: Final = ("image", "input_image", "mask", "mask_image", "effective_region_mask")
"""Fields of a ControlNet unit that hold images."""

_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
"""First bytes of PNG, JPEG, WebP, GIF, BMP and TIFF files; AVIF and HEIF have `ftyp` at byte 4."""

_ADDRESS: Final = re.compile("https?://", re.IGNORECASE)
_DATA: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

Place = tuple[Any, Any]
"""A list or dict, and the index or key at which it holds an image."""


def find_images(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where each image of a request is, such as `init_images[0]`, and its text."""
    for path, (holder, key) in _find_places(fields):
        yield path, holder[key]


def is_image(data: bytes) -> bool:
    """Return whether data begins as an image file does."""
    return data.startswith(_SIGNATURES) or data[4:8] == b"ftyp"


def is_address(text: str) -> bool:
    """Return whether a text is the address of an image."""
    return bool(_ADDRESS.match(text.strip()))


def is_base64_image(text: str) -> bool:
    """Return whether a text begins as base64 of an image file does."""
    try:
        return is_image(base64.b64decode(text.rpartition(",")[2][:64]))
    except ValueError:  # of the wrong length, or not ASCII
        return False


def prepare_images(
    fields: dict[str, Any], fetch: Callable[[str, float], bytes], seconds: float
) -> None:
    """Replace addresses of images by their content, and data URIs by plain base64.

    The WebUI takes only data URIs of one form, and some extensions take none.

    Args:
        fields: of a request; changed.
        fetch: returns the bytes behind an address within so many seconds.
        seconds: until all must be there, at most FETCH_TIME.

    Raises:
        UserError: an image cannot be fetched; names the field (code `input-invalid` or
            `address-not-public`).
    """
    deadline = active_time() + min(seconds, FETCH_TIME)
    for path, (holder, key) in list(_find_places(fields)):
        text = holder[key].strip()
        if is_address(text):
            holder[key] = _fetch(path, text, fetch, deadline - active_time())
        elif found := _DATA.match(text[:220]):
            holder[key] = text[found.end() :]


def _fetch(path: str, url: str, fetch: Callable[[str, float], bytes], seconds: float) -> str:
    """Return an image behind an address as base64.

    Raises:
        UserError: as `prepare_images`.
    """
    try:
        content = fetch(url, seconds)
        if not is_image(content):
            raise UserError("the address holds no image")
    except UserError as error:
        code = error.code if error.code == "address-not-public" else "input-invalid"
        message = f"input.{path} cannot be fetched: {error.message}"
        hint = error.hint or "check the address, or send the image as base64"
        raise UserError(message, location=error.location, hint=hint, code=code) from None
    return base64.b64encode(content).decode()


def _find_places(fields: Any) -> Iterator[tuple[str, Place]]:  # noqa: ANN401 - any JSON
    yield from _find_in(fields, OWN, "")
    scripts = fields.get("alwayson_scripts")
    for name, script in scripts.items() if isinstance(scripts, dict) else ():
        arguments = script.get("args") if isinstance(script, dict) else None
        for index, unit in enumerate(arguments if isinstance(arguments, list) else ()):
            yield from _find_in(unit, UNIT, f"alwayson_scripts.{name}.args[{index}].")


def _find_in(holder: Any, names: tuple[str, ...], path: str) -> Iterator[tuple[str, Place]]:  # noqa: ANN401
    """Yield the texts in the named fields: a text, a list of texts, or objects with texts."""
    for name in names if isinstance(holder, dict) else ():
        value = holder.get(name)
        where = f"{path}{name}"
        if isinstance(value, str):
            if value:
                yield where, (holder, name)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, str):
                    yield f"{where}[{index}]", (value, index)
                else:
                    yield from _find_in(each, ("data", *UNIT), f"{where}[{index}].")
        elif isinstance(value, dict):
            yield from _find_in(value, UNIT, f"{where}.")
