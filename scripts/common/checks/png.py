"""Whether bytes are a whole PNG that shows something, with the standard library alone.

By the format's specification (https://www.w3.org/TR/png-3/): signature, chunks with their checks,
and exactly as much pixel data as the header promises.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples of a pixel
_FEW: Final = 16


@dataclass(frozen=True)
class Picture:
    """A picture that could be decoded.

    Args:
        width: pixels.
        height: pixels.
        flat: whether it has one colour throughout, as a broken model's pictures have.
    """

    width: int
    height: int
    flat: bool


def decode(data: bytes) -> Picture:
    """Decode a PNG without interlacing, as image libraries write it.

    Raises:
        ValueError: it is not a whole one, and why.
    """
    chunks = _chunks(data)
    kind, header = chunks[0]
    if kind != b"IHDR" or len(header) != 13:
        raise ValueError("the PNG has no header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS or interlaced or not width or not height:
        raise ValueError("the PNG is of a kind that image libraries do not write")
    try:
        rows = zlib.decompress(b"".join(part for kind, part in chunks if kind == b"IDAT"))
    except zlib.error as error:
        raise ValueError(f"the PNG's pixels cannot be unpacked: {error}") from None
    row = 1 + (width * _CHANNELS[colour] * depth + 7) // 8
    if len(rows) != row * height:
        raise ValueError(f"the PNG has {len(rows)} bytes of pixels, not {row * height}")
    # Each row begins with its filter's number (0-4). Whatever the filter, one colour leaves a
    # handful of byte values: the colour's own, zero, and halves of them.
    return Picture(width, height, flat=len(set(rows)) < _FEW)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    found, at = [], len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        part = data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(kind + part):
            raise ValueError(f"the PNG is damaged at byte {at}")
        found.append((kind, part))
        if kind == b"IEND":
            return found
        at += 12 + length
    raise ValueError("the PNG ends too early")
