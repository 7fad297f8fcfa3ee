"""Reading the checkpoint into the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.container.webui.read_ahead import has_room, read_uncached

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


def test_only_blocks_that_are_not_cached_are_read(uncached: Path) -> None:
    with uncached.open("rb") as file:
        first = read_uncached(file.fileno(), SIZE)
        again = read_uncached(file.fileno(), SIZE)
    assert first > again == 0


@pytest.mark.parametrize(("size", "room"), [(1000, True), (10**15, False)])
def test_a_file_is_read_where_it_fits_beside_what_serving_takes(
    tmp_path: Path, size: int, room: bool
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    assert has_room("cuda", path, size) == room
