"""Atomic writes, and locks between processes."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from scripts.common.files import (
    exclusive_lock,
    is_locked,
    open_locked,
    shared_lock,
    write_atomically,
)


@pytest.mark.parametrize("data", ["grüße\n", b"\0\xff"])
def test_write_makes_folders_and_leaves_only_the_file(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, data, is_durable=True)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_write_keeps_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    write_atomically(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011 - the one raised above
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exclusive_lock_is_held_by_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file"):
        if path != tmp_path:
            path.touch()
        assert not is_locked(path)
        with exclusive_lock(path, without_locks=False) as first:
            with exclusive_lock(path, without_locks=True) as second:
                assert (first, second) == (True, False)
            assert is_locked(path)
        assert not is_locked(path)


def test_shared_locks_are_held_by_many_and_exclude_an_exclusive_one(tmp_path: Path) -> None:
    with shared_lock(tmp_path):
        with shared_lock(tmp_path):
            assert is_locked(tmp_path)
        with exclusive_lock(tmp_path, without_locks=True) as is_held:
            assert not is_held
    assert not is_locked(tmp_path)


def test_a_lock_follows_the_name_not_the_renamed_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = open_locked(path)

    def rename_and_release() -> None:
        path.rename(tmp_path / "renamed")
        os.close(first)

    second = open_locked(path, rename_and_release)
    assert os.fstat(second).st_ino == path.stat().st_ino != (tmp_path / "renamed").stat().st_ino
    os.close(second)


def test_a_missing_file_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_shared_lock_tells_when_the_file_was_removed_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    seen: list[bool] = []

    def lock() -> None:
        with shared_lock(path) as is_current:
            seen.append(is_current)

    with shared_lock(path) as is_current:
        assert is_current
    with exclusive_lock(path, without_locks=False) as is_free:
        assert is_free
        thread = threading.Thread(target=lock)
        thread.start()
        while not someone_waits():
            time.sleep(0.01)
        path.unlink()
    thread.join(10)
    assert seen == [False]


def someone_waits() -> bool:
    """Return whether a thread of this process waits for a lock (`->` in /proc/locks)."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {os.getpid()} " in line for line in lines)
