"""The git stand-in makes the same commits everywhere, and answers for missing repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.git_server import repositories, serving


def test_the_commits_are_the_same_on_every_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repositories(tmp_path / "first")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "another author")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        assert repositories(tmp_path / "second") == first
        assert repositories(tmp_path / "second") == first
    finally:
        os.umask(old)


def test_a_missing_repository_fails_without_a_password_prompt(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        command = ["git", "ls-remote", f"{url}/nobody/nothing"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "not found" in done.stderr
