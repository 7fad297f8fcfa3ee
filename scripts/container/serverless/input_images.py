"""Find the images in the fields of a request, and fetch those that are given by address."""

import base64
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from scripts.common.diagnostics.error import UserError

MAX_IMAGE: Final = 32_000_000
"""Bytes of an image that is fetched."""

FETCH_TIME: Final = 30.0
"""Seconds that all images of a job together may take to fetch."""

OWN: Final = ("init_images", "mask", "image", "imageList")
"""Fields whose images the WebUI decodes (`decode_base64_to_image` in `modules/api/api.py`)."""

UNIT: Final = ("image", "input_image", "mask", "mask_image", "effective_region_mask")
"""Fields of a ControlNet unit that hold images."""

_ADDRESS: Final = re.compile("https?://", re.IGNORECASE)
_DATA: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

Place = tuple[Any, Any]
"""A list or dict, and the index or key at which it holds an image."""


def find_images(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where each image of a request is, such as `init_images[0]`, and its text."""
    for path, (holder, key) in _find_places(fields):
        yield path, holder[key]


def prepare_images(fields: dict[str, Any], fetch: Callable[[str, float], bytes]) -> None:
    """Replace addresses of images by their content, and data URIs by plain base64.

    The WebUI takes only data URIs of one form, and some extensions take none.

    Args:
        fields: of a request; changed.
        fetch: returns the bytes behind an address within so many seconds.

    Raises:
        UserError: an image cannot be fetched; names the field (code `input-invalid`).
    """
    deadline = time.monotonic() + FETCH_TIME
    for path, (holder, key) in list(_find_places(fields)):
        text = holder[key].strip()
        if _ADDRESS.match(text):
            try:
                content = fetch(text, max(deadline - time.monotonic(), 0.0))
            except UserError as error:
                code = error.code if error.code == "address-not-public" else "input-invalid"
                message = f"input.{path} cannot be fetched: {error.message}"
                raise UserError(
                    message, location=error.location, hint=error.hint, code=code
                ) from None
            holder[key] = base64.b64encode(content).decode()
        elif found := _DATA.match(text[:220]):
            holder[key] = text[found.end() :]


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
