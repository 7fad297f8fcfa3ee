"""Checks of images: complete or damaged, pixels, colours, differences."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scripts.common.checks.images import (
    check_ends,
    decode_base64,
    decode_png,
    difference,
    file_suffix,
)
from tests.support import webui
from tests.support.smoke_reports import png


def encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_a_damaged_or_cut_png_is_refused() -> None:
    whole = webui.png(16, 8, seed=1)
    decoded = decode_png(whole)
    assert (decoded.width, decoded.height, decoded.colours) == (16, 8, 128)
    for at in range(0, len(whole), 7):
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(ValueError, match=r"PNG"):
            decode_png(damaged)
        with pytest.raises(ValueError, match=r"PNG"):
            decode_png(whole[:at])


@given(st.binary(max_size=200))
def test_any_bytes_after_the_signature_are_refused_cleanly(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PNG"):
        decode_png(webui.png(8, 8, 1)[:8] + data)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_pixels_are_those_that_pillow_decodes(mode: str) -> None:
    gradient = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * i) for i in range(3)])
    noise = Image.effect_noise(gradient.size, 20).convert("RGB")
    image = Image.blend(gradient, noise, 0.2).crop((0, 0, 61, 47)).convert(mode)
    decoded, same = decode_png(encode(image)), image.convert("RGB")
    assert decoded.rgb == same.tobytes()
    assert decoded.colours == min(len(same.getcolors(61 * 47) or []), 256)


def test_one_colour_is_one_colour_at_any_size() -> None:
    assert decode_png(png((1, 2, 3), edge=200)).colours == 1


def test_images_differ_by_pixels_not_by_bytes() -> None:
    one, other = decode_png(png((10, 20, 30))), decode_png(png((10, 20, 33)))
    assert difference(one, one) == 0
    assert difference(one, other) == pytest.approx(1.0)


def test_base64_is_decoded_with_and_without_a_data_url() -> None:
    text = base64.b64encode(png()).decode()
    assert decode_base64(text) == decode_base64(f"data:image/png;base64,{text}") == png()


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(png()[:-4]).decode()])
def test_an_incomplete_image_is_refused_by_its_ends(text: str) -> None:
    with pytest.raises(ValueError, match="an image that is"):
        check_ends(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (webui.png(8, 8, 1), ".png"),
        (webui.png(8, 8, 1)[:-1], ""),
        (b"\xff\xd8\xff\xe0 picture \xff\xd9", ".jpg"),
        (b"\xff\xd8\xff\xe0 picture ", ""),
        (b"RIFF\x0c\0\0\0WEBPVP8 1234", ".webp"),
        (b"", ""),
        (b"GIF89a", ""),
    ],
)
def test_a_file_suffix_is_known_by_both_ends(data: bytes, expected: str) -> None:
    assert file_suffix(data[:48], data[-48:]) == expected
