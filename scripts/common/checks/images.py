"""Checks of images in the WebUI's answers: base64, complete, size, colours; standard library only.

PNG is decoded by its specification (https://www.w3.org/TR/png-3/): signature, chunks with their
checksums, and exactly as much pixel data as the header promises. 512x512 takes 0.15 s.
"""

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples of a pixel
_PALETTE: Final = 3
_ENDS: Final = 64  # base64 characters examined at each end of an image: whole groups of four
MAX_COLOURS: Final = 256
"""Number of colours from which on they are no longer counted."""


@dataclass(frozen=True)
class Png:
    """A complete PNG.

    Args:
        data: the file's bytes.
        width: in pixels.
        height: in pixels.
        channels: samples of a pixel.
        depth: bytes of a sample.
        rows: unpacked pixel data; each row begins with the number of its filter.
        palette: red, green and blue of each index; empty where pixels hold colours themselves.
    """

    data: bytes
    width: int
    height: int
    channels: int
    depth: int
    rows: bytes
    palette: bytes = b""

    @property
    def size(self) -> str:
        """Return the size for a person: `64x64`."""
        return f"{self.width}x{self.height}"

    @property
    def base64(self) -> str:
        """Return the file as requests to the WebUI carry it."""
        return base64.b64encode(self.data).decode()

    @cached_property
    def rgb(self) -> bytes:
        """Return red, green and blue of each pixel, 8 bits each; transparency is ignored."""
        samples = self._samples()[:: self.depth]  # of 16 bits the high byte, which comes first
        if self.palette:
            return b"".join(self.palette[3 * index : 3 * index + 3] for index in samples)
        step = self.channels
        grey = step < 3
        bands = [samples[band::step] for band in ((0, 0, 0) if grey else (0, 1, 2))]
        return bytes(chain.from_iterable(zip(*bands, strict=True)))

    @property
    def colours(self) -> int:
        """Return how many different colours there are, counted up to MAX_COLOURS."""
        found: set[bytes] = set()
        for at in range(0, len(self.rgb), 3):
            found.add(self.rgb[at : at + 3])
            if len(found) == MAX_COLOURS:
                break
        return len(found)

    def _samples(self) -> bytes:
        pixel = self.channels * self.depth
        row = pixel * self.width
        above, result = bytearray(row), bytearray()
        for at in range(0, len(self.rows), row + 1):
            line = bytearray(self.rows[at + 1 : at + 1 + row])
            _unfilter(self.rows[at], line, above, pixel)
            result += line
            above = line
        return bytes(result)


def decode_png(data: bytes) -> Png:
    """Decode a PNG as image libraries write it: not interlaced, 8 or 16 bits a sample.

    Raises:
        ValueError: it is not a complete one; the text says why.
    """
    chunks = _read_chunks(data)
    kind, header = chunks[0]
    if kind != b"IHDR" or len(header) != 13:
        raise ValueError("the PNG has no header")
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    palette = b""
    if colour_type == _PALETTE:
        palette = b"".join(part for kind, part in chunks if kind == b"PLTE")
    usual = colour_type in _CHANNELS and bits in (8, 16) and not interlaced
    if not usual or not width or not height or (colour_type == _PALETTE and not palette):
        raise ValueError("the PNG is of a kind that image libraries do not write")
    try:
        rows = zlib.decompress(b"".join(part for kind, part in chunks if kind == b"IDAT"))
    except zlib.error as error:
        raise ValueError(f"the PNG's pixels cannot be unpacked: {error}") from None
    channels, depth = _CHANNELS[colour_type], bits // 8
    row = 1 + width * channels * depth
    if len(rows) != row * height:
        raise ValueError(f"the PNG has {len(rows)} bytes of pixels, not {row * height}")
    if max(rows[::row]) > 4:
        raise ValueError("the PNG has a row with an unknown filter")
    return Png(data, width, height, channels, depth, rows, palette)


def decode_base64(image: object) -> bytes:
    """Decode an image of an answer, with or without `data:image/png;base64,` before it.

    Raises:
        ValueError: it is not base64.
    """
    text = str(image)
    return base64.b64decode(text.partition(",")[2] or text, validate=True)


def check_ends(image: object) -> str:
    """Check the begin and the end of a base64 image, which takes the same time at any length.

    Returns:
        The image.

    Raises:
        ValueError: it is not base64, cut off, or not PNG, JPEG or WebP.
    """
    text = str(image)
    try:
        ends = decode_base64(text[:_ENDS]), decode_base64(text[-_ENDS:])
    except ValueError:
        raise ValueError("an image that is not base64") from None
    if len(text) % 4 or not file_suffix(*ends):
        raise ValueError("an image that is cut off, or not PNG, JPEG or WebP")
    return text


def file_suffix(start: bytes, end: bytes) -> str:
    """Return `.png`, `.jpg` or `.webp` for a file that begins and ends as one; else empty."""
    if start.startswith(_SIGNATURE) and end.endswith(b"IEND\xaeB`\x82"):
        return ".png"
    if start.startswith(b"\xff\xd8\xff") and end.rstrip(b"\0").endswith(b"\xff\xd9"):
        return ".jpg"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return ".webp"  # gives its length at the start, and nothing at the end
    return ""


def difference(one: Png, other: Png) -> float:
    """Return the mean difference of two images of one size: 0 for equal pixels, at most 255."""
    if one.rows == other.rows:
        return 0.0
    return sum(map(abs, map(int.__sub__, one.rgb, other.rgb))) / len(one.rgb)


def _read_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("not a PNG")
    chunks, at = [], len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        part = data[at + 8 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        if len(checksum) < 4 or struct.unpack(">I", checksum)[0] != zlib.crc32(kind + part):
            raise ValueError(f"the PNG is damaged at byte {at}")
        chunks.append((kind, part))
        if kind == b"IEND":
            return chunks
        at += 12 + length
    raise ValueError("the PNG ends too early")


def _unfilter(kind: int, line: bytearray, above: bytearray, pixel: int) -> None:
    """Undo a row's filter in place (PNG specification, section 9); `pixel` is a pixel's bytes."""
    if kind == 2:
        line[:] = bytes((value + up) & 255 for value, up in zip(line, above, strict=True))
    elif kind:
        predict = _PREDICTORS[kind]
        for i in range(len(line)):
            left, corner = (line[i - pixel], above[i - pixel]) if i >= pixel else (0, 0)
            line[i] = (line[i] + predict(left, above[i], corner)) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if by_left <= by_up and by_left <= by_corner:
        return left
    return up if by_up <= by_corner else corner


_PREDICTORS: Final[dict[int, Callable[[int, int, int], int]]] = {
    1: lambda left, _up, _corner: left,
    3: lambda left, up, _corner: (left + up) // 2,
    4: _paeth,
}
