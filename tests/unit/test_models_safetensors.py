"""Compare the safetensors check with the format's rules and with the reference library."""

from __future__ import annotations

import json
import math
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from scripts.common.fetch.file_format import (
    MAX_HEADER,
    check_header,
    check_safetensors,
    header_length,
)
from tests.support.errors import user_error

TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
VALID: dict[str, Any] = {
    "__metadata__": {"format": "pt", "größe": "ü\u2028"},
    "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [12, 14]},
    "empty": {"dtype": "F32", "shape": [0, 7], "data_offsets": [14, 14]},
    "c": {"dtype": "F8_E4M3", "shape": [1, 2, 1], "data_offsets": [14, 16]},
}
DATA = 16


def verdict(header: bytes, data: int) -> str:
    """Return which rule a header breaks; empty if none."""
    try:
        check_header(header, data)
    except ValueError as error:
        return str(error) or "?"
    return ""


def library_accepts(header: bytes, data: int) -> bool:
    try:
        deserialize(struct.pack("<Q", len(header)) + header + bytes(data))  # type: ignore[no-untyped-call]  # a Rust function
    except SafetensorError:
        return False
    return True


STRICTER = ("does not begin with {", "is there twice", "not described by a map", 'dtype "{')
"""Rules of the specification that the library does not check: the first byte, duplicate keys, and
that a tensor is a map and its dtype a string (the library takes Rust's other notations too)."""


def agree(header: bytes, data: int) -> None:
    found, accepted = verdict(header, data), library_accepts(header, data)
    if accepted:
        assert not found or any(text in found for text in STRICTER), (header, found)
    else:
        assert found, header


def encoded(header: Any) -> bytes:
    return json.dumps(header, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        ({"a": TENSOR}, 5, "fill 4 bytes, the file holds 5"),
        ({"a": TENSOR}, 3, "fill 4 bytes, the file holds 3"),
        ({"a": {**TENSOR, "data_offsets": [4, 8]}}, 8, "starts at 4, expected 0"),
        ({"a": TENSOR, "b": TENSOR}, 4, "starts at 0, expected 4"),
        ({"a": {**TENSOR, "shape": [2]}}, 4, "takes 8 bytes, not 4"),
        ({"a": {**TENSOR, "dtype": "f32"}}, 4, "unknown dtype"),
        ({"a": {**TENSOR, "shape": [1.0]}}, 4, "no shape"),
        ({"a": {**TENSOR, "shape": [True]}}, 4, "no shape"),
        ({"a": {**TENSOR, "shape": [1 << 63, 4]}}, 4, "larger than 64 bits"),
        ({"a": {**TENSOR, "data_offsets": [0, 4, 4]}}, 4, "no pair"),
        ({"a": {**TENSOR, "dtype": "F4"}}, 4, "takes 0.5 bytes"),
        ({"a": None}, 0, "not described by a map"),
        ({"__metadata__": {"a": 1}}, 0, "not a map of strings"),
        ([], 0, "does not begin with {"),
    ],
)
def test_each_rule_is_checked(header: Any, data: int, why: str) -> None:
    assert why in verdict(encoded(header), data)
    agree(encoded(header), data)


def test_duplicate_keys_are_refused_unlike_in_the_library() -> None:
    twice = b'{"a":%b,"a":%b}' % (encoded(TENSOR), encoded(TENSOR))
    assert "'a' is there twice" in verdict(twice, 4)


@pytest.mark.parametrize("padding", ["", "   ", "\n"])
def test_valid_header_is_accepted_with_padding(padding: str) -> None:
    header = encoded(VALID) + padding.encode()
    assert verdict(header, DATA) == ""
    assert library_accepts(header, DATA)


def test_file_length_must_match_its_header(tmp_path: Path) -> None:
    header = encoded(VALID)
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(DATA))
    shapes, metadata, data = check_safetensors(path)
    assert shapes == {"a": (2, 3), "b": (), "empty": (0, 7), "c": (1, 2, 1)}
    assert (metadata, data) == (VALID["__metadata__"], DATA)
    with path.open("ab") as stream:
        stream.write(b"\0")
    error = user_error(check_safetensors, path)
    assert error.code == "not-safetensors"


@pytest.mark.parametrize(
    ("prefix", "size", "why"),
    [
        (b"", 0, "shorter than 8"),
        (struct.pack("<Q", MAX_HEADER + 1), MAX_HEADER * 2, "over the limit"),
        (struct.pack("<Q", 1 << 63), 1 << 40, "over the limit"),
        (struct.pack("<Q", 100), 107, "past the end"),
    ],
)
def test_invalid_header_length_is_refused_unread(prefix: bytes, size: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        header_length(prefix, size)


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"a":{"x":[' + b"[]," * 300_000 + b"1]}}",
        b'{"a":' + b"9" * 1_000_000 + b"}",
        b'{"a":"' + b"\\ud800" * 160_000 + b'"}',
        b"{" + b",".join(b'"%d":0' % i for i in range(80_000)) + b"}",
        b"{" + b'"a":0,' * 160_000 + b'"a":0}',
        b"{" * 1_000_000,
    ],
    ids=["lists", "digits", "surrogates", "keys", "same-key", "depth"],
)
def test_hostile_header_takes_bounded_memory_and_time(hostile: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    assert verdict(hostile, 0)
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * len(hostile)
    assert seconds < 10  # tracemalloc makes it slow; what grows with the square takes minutes


@pytest.mark.parametrize("depth", [120, 128, 1000, 100_000])
def test_nesting_limit_is_the_librarys(depth: int) -> None:
    deep = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":%b%b}}'
    agree(deep % (b"[" * depth, b"]" * depth), 4)


SCRAPS = [
    *b'{}[]",:0189-+.eE \\u\n\t\x00\x1f\x7f\xff\xc3\xa9tfn',
]
WORDS = (
    b"null", b"true", b"NaN", b"Infinity", b"-0", b"1.0", b"1e0", b"1e999", b"18446744073709551615",
    b"18446744073709551616", b"99999999999999999999999999", b"-1", b"\\ud800", b"\\ud83d\\ude00",
    b"\\u0061", b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b"[]", b"{}",
    b'"F32"', b'"F4"', b'"I64"', b'"a"', b"[[[[", b'{"F32":null}', b"/**/", b"\xef\xbb\xbf", b"\\/",
)  # fmt: skip


def built(chance: random.Random) -> tuple[dict[str, Any], int]:
    """Make a valid header with tensors of any kind; return it and the length of its data."""
    bits = {"F32": 32, "BF16": 16, "U8": 8, "F8_E4M3": 8, "I64": 64, "F4": 4, "F6_E2M3": 6}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if chance.random() < 0.3 else {}
    end = 0
    for name in chance.sample("abcdefgh", chance.choice((0, 1, 2, 3, 4, 5, 6))):
        dtype = chance.choice(list(bits))
        shape = [chance.choice((0, 1, 2, 3, 4, 8)) for _ in range(chance.randrange(4))]
        stop = end + math.prod(shape) * bits[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, stop]}
        end = stop
    names = chance.sample(list(header), len(header))
    return {name: header[name] for name in names}, end


def mutated(chance: random.Random, header: bytes) -> bytes:
    """Change, move, double or drop a few bytes or tokens of a header."""
    made = bytearray(header)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(made) + 1)
        until = min(len(made), at + chance.choice((0, 1, 1, 2, 5, 20)))
        what = chance.randrange(4)
        if what == 0:
            made[at:until] = bytes([chance.choice(SCRAPS)])
        elif what == 1:
            made[at:until] = chance.choice(WORDS)
        elif what == 2:
            start = chance.randrange(len(made) + 1)
            made[at:until] = made[start : start + chance.randrange(30)]
        else:
            del made[at:until]
    return bytes(made)


DIFFERENT: set[bytes] = set()


@settings(
    max_examples=1200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.integers(0, 1 << 64), st.integers(-2, 2))
def judge_as_the_library_does(seed: int, more: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - mutations, not secrets
    for _ in range(50):
        header, data = (VALID, DATA) if chance.random() < 0.4 else built(chance)
        made = mutated(chance, encoded(header))
        DIFFERENT.add(made)
        agree(made, data)
        agree(made, max(0, data + more))


def test_mutated_headers_are_accepted_as_by_the_library() -> None:
    DIFFERENT.clear()
    judge_as_the_library_does()
    assert len(DIFFERENT) >= 20_000


NUMBERS = st.one_of(
    st.integers(-2, 20),
    st.sampled_from([(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1.0, 1e300, True, None, "4"]),
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4", "F6_E2M3", "BOOL", "F128", "", None, 1]),
        "shape": st.lists(NUMBERS, max_size=4),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    },
    optional={"extra": st.recursive(NUMBERS, st.lists, max_leaves=5)},
)


@settings(
    max_examples=1000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.dictionaries(st.text(max_size=3), st.one_of(ENTRIES, NUMBERS), max_size=3))
def test_odd_shapes_and_offsets_are_accepted_as_by_the_library(
    header: dict[str, Any],
) -> None:
    for data in (0, 4, 8):
        agree(encoded_leniently(header), data)


def encoded_leniently(header: dict[str, Any]) -> bytes:
    """JSON that may hold half a surrogate pair, as an escape."""
    return json.dumps(header).encode()
