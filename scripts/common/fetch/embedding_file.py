"""Check that an embedding holds what the WebUI reads as one; else it is skipped silently.

Source: `load_from_file` and `create_embedding_from_data` in
`modules/textual_inversion/textual_inversion.py`, alike in A1111 v1.9.3 and v1.10.1.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_KEYWORD: Final = b"sd-ti-embedding"
_MAX_TEXT: Final = 1 << 26


def check_embedding_tensors(
    shapes: Mapping[str, tuple[int, ...]], name: str, *, embedded: int | None = None
) -> None:
    """Check the tensors of a file.

    Args:
        shapes: shapes of the outermost tensors, by name.
        name: the file's name.
        embedded: number of tensors in its `string_to_param`; None if it has none.

    Raises:
        UserError: the WebUI would not read an embedding from it (code `wrong-kind`).
    """
    if embedded is not None:
        if embedded != 1:
            raise _no_embedding(f"its string_to_param has {embedded} tensors, not one", name)
    elif not {"clip_g", "clip_l"} <= shapes.keys() and len(shapes) != 1:
        raise _no_embedding(
            f"it has {len(shapes)} tensors, neither one nor clip_g and clip_l", name
        )


def check_embedding_image(path: Path, name: str) -> None:
    """Check an image that carries an embedding.

    A PNG file has it as text, which is read here; the other formats, and a PNG file without text,
    only in their pixels, which are not.

    Raises:
        UserError: it is a preview, no image, or its text is no embedding (code `wrong-kind`).
    """
    if Path(name).stem.lower().endswith(".preview"):
        raise _no_embedding("the WebUI takes it for a preview image, by its name", name)
    with path.open("rb") as stream:
        start = stream.read(16)
    if not (
        start.startswith((_PNG, b"\xff\x0a"))
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[4:8] in (b"ftyp", b"JXL ")
    ):
        raise _no_embedding("it is not an image", name)
    if not start.startswith(_PNG):
        return
    try:
        texts = list(_embedding_texts(path.read_bytes()))
        data = json.loads(base64.b64decode(texts[0])) if texts else None
    except (ValueError, zlib.error, RecursionError) as error:
        raise _no_embedding(f"its text {_KEYWORD.decode()} cannot be read: {error}", name) from None
    if data is None:
        return
    if not isinstance(data, dict):
        raise _no_embedding("its text is no embedding", name)
    params = data.get("string_to_param")
    tensors = {key: () for key, value in data.items() if isinstance(value, dict)}
    check_embedding_tensors(
        tensors, name, embedded=len(params) if isinstance(params, dict) else None
    )


def _embedding_texts(content: bytes) -> Iterator[bytes]:
    """List the texts of a PNG file that hold an embedding (PNG specification, section 11.3.4)."""
    at = len(_PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        keyword, _, rest = body.partition(b"\0")
        if keyword == _KEYWORD and kind == b"tEXt":
            yield rest
        elif keyword == _KEYWORD and kind == b"zTXt":
            yield _inflate(rest[1:])
        elif keyword == _KEYWORD and kind == b"iTXt":
            text = rest[2:].split(b"\0", 2)[2]
            yield _inflate(text) if rest[:1] == b"\1" else text
        at += length + 12
    if at != len(content):
        raise ValueError("the file breaks off")


def _inflate(packed: bytes) -> bytes:
    return zlib.decompressobj().decompress(packed, _MAX_TEXT)


def _no_embedding(reason: str, name: str) -> UserError:
    return UserError(f"the file is no embedding: {reason}", location=name, code="wrong-kind")
