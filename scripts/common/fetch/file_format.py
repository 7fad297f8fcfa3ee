"""Check that a model file is what its name and its kind say, before it gets its final name.

Loading a pickle runs code from the file: one is accepted with `allow_pickle: true`, or for kinds
that are commonly pickles, and then only if all that it would import is known to be harmless.
"""

import json
import math
import re
from collections import Counter
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any, Final, TypeGuard

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.embedding_file import check_embedding_image, check_embedding_tensors
from scripts.common.fetch.impostors import refuse_impostor
from scripts.common.fetch.model_content import check_content, refuse_misfit
from scripts.common.models.kinds import IMAGE_SUFFIXES, PICKLE_SUFFIXES

PICKLED_KINDS: Final = (
    "embedding",
    "hypernetwork",
    "controlnet",
    "upscaler",
    "face-restoration",
    "interrogate",
    "adetailer",
)
"""Kinds that are commonly pickles, so that one needs no `allow_pickle`; its imports are checked."""

_ZIP: Final = b"PK\x03\x04"  # what torch.save has written since 1.6
_PICKLE: Final = tuple(b"\x80" + bytes([version]) for version in range(2, 6))

MAX_HEADER: Final = 100_000_000
"""The specification's own limit, in bytes, against headers made to exhaust memory."""

_MAX_DEPTH: Final = 127  # the reference library's JSON parser goes no deeper
_WORD: Final = 1 << 64  # lengths and offsets are unsigned 64-bit integers

_BITS: Final = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


def claims_safetensors(name: str) -> bool:
    """Return whether a file's name is that of a safetensors file."""
    return name.lower().endswith(".safetensors")


def refuse_pickle(name: str, kind: str = "", *, is_pickle: bool = False) -> None:
    """Refuse a file by its name, before anything is downloaded, or by its content.

    Raises:
        UserError: one of them is that of a pickle, and the kind is not commonly one (code
            `pickle-refused`).
    """
    if kind not in PICKLED_KINDS and (is_pickle or name.lower().endswith(PICKLE_SUFFIXES)):
        message = "a pickle can run code when it is loaded, so it is refused"
        raise UserError(message, location=name, code="pickle-refused")


def check_structure(
    path: Path, name: str, *, kind: str = "", allow_pickle: bool, release: str = ""
) -> str:
    """Check a file by its beginning; safetensors by the whole header, a pickle by its imports.

    Args:
        path: the file.
        name: its name at the source; the suffix decides what it must be.
        kind: its kind of model; empty to check only the structure.
        allow_pickle: accept a pickle of any kind.
        release: A1111 release that will load it; empty if unknown.

    Returns:
        Its form: `safetensors`, `pickle`, `pickle-newer`, `torchscript` or `data`.

    Raises:
        UserError: it is no model at all, a pickle that is not accepted, not what its name claims,
            or of another kind.
    """
    refuse_impostor(path, name, kind=kind)
    if claims_safetensors(name):
        shapes, metadata, _ = check_safetensors(path, name=name)
        if kind == "embedding":
            check_embedding_tensors(shapes, name)
        refuse_misfit(shapes, kind, name, metadata)
        return "safetensors"
    if kind == "embedding" and name.lower().endswith(IMAGE_SUFFIXES):
        check_embedding_image(path, name)
        return "data"
    with path.open("rb") as stream:
        is_pickle = stream.read(4).startswith((_ZIP, *_PICKLE))
    if not allow_pickle:
        refuse_pickle(name, kind, is_pickle=is_pickle)
    if not is_pickle and not name.lower().endswith(PICKLE_SUFFIXES):
        return "data"
    from scripts.common.fetch.pickle_scan import scan_pickle  # only where there is a pickle

    content = scan_pickle(path, name, kind=kind, release=release)
    check_content(content, kind, name)
    return content.form


def is_acceptable(
    form: str, name: str, *, kind: str = "", allow_pickle: bool, release: str = ""
) -> bool:
    """Return whether a file of a known form, checked for this kind, passes `check_structure`."""
    if claims_safetensors(name):
        return form == "safetensors"
    if form == "pickle-newer" and kind not in ("", "other"):
        from scripts.common.fetch.pickle_scan import reads_newer_zips

        if not reads_newer_zips(release):
            return False
    is_pickle = form in ("pickle", "pickle-newer", "torchscript")
    return allow_pickle or kind in PICKLED_KINDS or not is_pickle


def check_safetensors(
    path: Path, *, name: str = ""
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], int]:
    """Check that a file is a complete safetensors file, by its header alone.

    The rules are those of the format's specification
    (https://github.com/huggingface/safetensors#format) and, where that is silent, of the reference
    library. No tensor is read: the header gives the length of the file, and every byte of it must
    belong to exactly one tensor.

    Args:
        path: the file.
        name: its name in messages; the path's by default.

    Returns:
        Shape of each tensor by name, `__metadata__`, and number of the tensors' bytes.

    Raises:
        UserError: it is not a complete safetensors file (code `not-safetensors`).
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        try:
            length = header_length(stream.read(8), size)
            data = size - 8 - length
            return *check_header(stream.read(length), data), data
        except ValueError as error:
            raise UserError(
                f"not a whole safetensors file: {error}",
                location=name or path.name,
                code="not-safetensors",
            ) from None


def header_length(prefix: bytes, size: int) -> int:
    """Return the length of the header in bytes.

    Args:
        prefix: the file's first 8 bytes.
        size: the whole file's length in bytes.

    Raises:
        ValueError: the length is missing, absurd or longer than the file.
    """
    if len(prefix) < 8:
        raise ValueError("shorter than 8 bytes")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER:
        raise ValueError(f"header of {length} bytes is over the limit of {MAX_HEADER}")
    if length > size - 8:
        raise ValueError(f"header of {length} bytes reaches past the end of the file")
    return length


def check_header(header: bytes, data: int) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Check a header, and that it describes the bytes that follow it.

    Args:
        header: the JSON text.
        data: bytes after the header.

    Returns:
        Shape of each tensor by name, and `__metadata__`.

    Raises:
        ValueError: the header breaks a rule; the message says which.
    """
    tree, metadata = _parse(header)
    spans = [_span(name, entry) for name, entry in tree.items()]
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise ValueError(f"tensor {name!r} starts at {start}, expected {end}")
        end = stop
    if end != data:
        raise ValueError(f"tensors fill {end} bytes, the file holds {data}")
    return {name: tuple(entry["shape"]) for name, entry in tree.items()}, metadata


def _parse(header: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors by name, and `__metadata__`."""
    if not header.startswith(b"{"):
        raise ValueError("the header does not begin with {")
    try:
        text = header.decode("utf-8")
        tree: dict[str, Any] = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(tree, ensure_ascii=False).encode("utf-8")  # half a surrogate pair fails
    except UnicodeError:
        raise ValueError("the header is not UTF-8") from None
    except RecursionError:
        raise ValueError("the header nests too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the header is not JSON: {error.msg} at byte {error.pos}") from None
    if _deeper_than(tree, _MAX_DEPTH):
        raise ValueError("the header nests too deeply")
    metadata = tree.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError("__metadata__ is not a map of strings")
    return tree, metadata or {}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return made


def _integer(digits: str) -> int | float:
    """Parse an integer that fits into 64 bits; any other as the float it rounds to."""
    if digits != "-0" and len(digits) <= 20:
        number = int(digits)
        if number < _WORD:
            return number
    return _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is not a number of JSON")
    return number


def _deeper_than(tree: Any, levels: int) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(tree, (dict, list)):
        return False
    below = tree.values() if isinstance(tree, dict) else tree
    return levels == 0 or any(_deeper_than(value, levels - 1) for value in below)


def _span(name: str, entry: Any) -> tuple[int, int, str]:  # noqa: ANN401 - any JSON value
    """Return start, end and name of a tensor, after checking that its shape fits them."""
    if not isinstance(entry, dict):
        raise ValueError(f"tensor {name!r} is not described by a map")
    dtype, shape = entry.get("dtype"), entry.get("shape")
    offsets = entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r} has the unknown dtype {str(dtype)[:20]!r}")
    if not _are_lengths(shape):
        raise ValueError(f"tensor {name!r} has no shape of non-negative integers")
    if not _are_lengths(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has no pair of data_offsets")
    start, stop = offsets
    factors = [*shape, _BITS[dtype]]
    if any(product >= _WORD for product in accumulate(factors, mul)):  # as the library multiplies
        raise ValueError(f"tensor {name!r} is larger than 64 bits can count")
    bits = math.prod(factors)
    if stop < start or bits != (stop - start) * 8:
        raise ValueError(f"tensor {name!r} takes {bits / 8:g} bytes, not {stop - start}")
    return start, stop, name


def _are_lengths(value: Any) -> TypeGuard[list[int]]:  # noqa: ANN401 - any JSON value
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
