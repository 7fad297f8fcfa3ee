"""Check that an interrogator describes images: what it says of an image is not what it says of any.

A1111 v1.9.3 and v1.10.1 answer 200 with `<error>` as, or after, the caption where clip fails
(`modules/interrogate.py`). deepdanbooru names only tags above a threshold, maybe none
(`modules/deepbooru.py`).
"""

import base64
import struct
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from scripts.common.checks.api_requests import get_json, post
from scripts.common.checks.check import judge
from scripts.common.checks.images import Png
from scripts.common.gpu.judge import Judgement
from scripts.common.webui_client import OPTIONS, WebuiClient

_UNUSED: Final = "model-not-used"
_TELLING: Final[Mapping[str, Any]] = {
    "interrogate_return_ranks": True,  # numbers, which differ where the words are the same
    "interrogate_deepbooru_score_threshold": 0.0,
    "deepbooru_sort_alpha": False,
}
_SHOWN: Final = 100  # characters of a caption
_GREY: Final = 128


def judge_interrogator(client: WebuiClient, image: Png, model: str) -> Judgement:
    """Have an image and a grey one of its size described, and compare the captions.

    Args:
        client: of the WebUI.
        image: the image.
        model: the interrogator, `clip` or `deepdanbooru`.

    Raises:
        UserError: the WebUI answers with an error.
    """
    images = (image.base64, _make_grey(image.width, image.height))
    with _changed_options(client, _TELLING):
        captions = [_describe(client, each, model) for each in images]
    caption = captions[0]
    shown = textwrap.shorten(caption, _SHOWN, placeholder=" …")
    if any("<error>" in each for each in captions):
        return judge(shown, "it failed; the log says why", _UNUSED)
    if not caption:
        return judge("", "the caption is empty", _UNUSED)
    problem = "its caption of a grey image is the same" if caption == captions[1] else ""
    return judge(shown, problem, _UNUSED)


def _describe(client: WebuiClient, image: str, model: str) -> str:
    fields = {"image": image, "model": model}
    return str(post(client, "/sdapi/v1/interrogate", fields).get("caption") or "")


@contextmanager
def _changed_options(client: WebuiClient, options: Mapping[str, Any]) -> Iterator[None]:
    """Set options of the WebUI until the block ends."""
    before = get_json(client, OPTIONS) or {}
    post(client, OPTIONS, options)
    try:
        yield
    finally:
        post(client, OPTIONS, {name: before[name] for name in options if name in before})


def _make_grey(width: int, height: int) -> str:
    """Return a grey PNG in base64, by its specification (https://www.w3.org/TR/png-3/)."""
    row = b"\0" + bytes([_GREY]) * 3 * width
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
