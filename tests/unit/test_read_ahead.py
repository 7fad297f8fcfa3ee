"""Reading the checkpoint into the page cache."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from pathlib import Path

import pytest

from scripts.container.webui.read_ahead import has_room, read_into_cache

SIZE = 20_000_000


@pytest.fixture
def uncached(tmp_path: Path) -> Path:
    """A file that is on the disk only."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def count_cached(path: Path) -> int:
    """Return the number of a file's pages that are in the page cache."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapped:
        pages = (ctypes.c_ubyte * math.ceil(SIZE / mmap.PAGESIZE))()
        begin = ctypes.byref(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None).mincore(begin, ctypes.c_size_t(SIZE), pages) == 0
        del begin
        return sum(page & 1 for page in pages)


def test_the_whole_file_is_cached_afterwards(uncached: Path) -> None:
    before = count_cached(uncached)
    with uncached.open("rb") as file:
        read_into_cache(file.fileno(), SIZE)
    assert before < count_cached(uncached) == math.ceil(SIZE / mmap.PAGESIZE)


@pytest.mark.parametrize(("size", "room"), [(1000, True), (10**15, False)])
def test_a_file_is_read_where_it_fits_beside_what_serving_takes(
    tmp_path: Path, size: int, room: bool
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    assert has_room("cuda", path, size) == room
