"""Check that a file is a complete safetensors file, by its header alone.

The rules are those of the format's specification (https://github.com/huggingface/safetensors#format)
and, where that is silent, of the reference library. No tensor is read: the header gives the length
of the file, and every byte of it must belong to exactly one tensor.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

from scripts.common.diagnostics.error import UserError

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


class Summary(NamedTuple):
    """Contents of a valid header.

    Args:
        tensors: number of tensors.
        header: length of the header in bytes.
        data: bytes of all tensors together.
    """

    tensors: int
    header: int
    data: int


def check(path: Path, *, name: str = "") -> Summary:
    """Check a file and summarise its header.

    Args:
        path: the file.
        name: its name in messages; the path's by default.

    Raises:
        UserError: it is not a complete safetensors file (code `not-safetensors`).
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        try:
            length = header_length(stream.read(8), size)
            return check_header(stream.read(length), size - 8 - length)
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


def check_header(header: bytes, data: int) -> Summary:
    """Check a header, and that it describes the bytes that follow it.

    Args:
        header: the JSON text.
        data: bytes after the header.

    Raises:
        ValueError: the header breaks a rule; the message says which.
    """
    spans = [_span(name, entry) for name, entry in _parse(header).items()]
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise ValueError(f"tensor {name!r} starts at {start}, expected {end}")
        end = stop
    if end != data:
        raise ValueError(f"tensors fill {end} bytes, the file holds {data}")
    return Summary(tensors=len(spans), header=len(header), data=data)


def _parse(header: bytes) -> dict[str, Any]:
    """Return the tensors by name; check `__metadata__` and leave it out."""
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
    return tree


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
    bits = _product([*shape, _BITS[dtype]])
    if bits is None:
        raise ValueError(f"tensor {name!r} is larger than 64 bits can count")
    if stop < start or bits != (stop - start) * 8:
        raise ValueError(f"tensor {name!r} takes {bits / 8:g} bytes, not {stop - start}")
    return start, stop, name


def _are_lengths(value: Any) -> TypeGuard[list[int]]:  # noqa: ANN401 - any JSON value
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _product(factors: list[int]) -> int | None:
    """Multiply in order; None once 64 bits overflow, as in the reference library."""
    product = 1
    for factor in factors:
        product *= factor
        if product >= _WORD:
            return None
    return product
