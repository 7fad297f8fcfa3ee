"""The git stand-in makes the same commits everywhere, and answers for missing repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.git_server import EXTENSION, repositories, serving


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


def test_an_extension_is_cloned_with_its_submodule(tmp_path: Path) -> None:
    commits = repositories(tmp_path / "git")
    with serving(tmp_path / "git") as url:
        mirror = ("-c", f"url.{url}/.insteadOf=https://github.com/")
        clone = ["git", *mirror, "clone", "--quiet", "--recurse-submodules"]
        command = [*clone, f"https://github.com/{EXTENSION}", str(tmp_path / "clone")]
        subprocess.run(command, check=True, timeout=60)
    inside = ["git", "-C", str(tmp_path / "clone"), "ls-tree", "HEAD", "phrases"]
    listed = subprocess.run(inside, check=True, capture_output=True, text=True).stdout
    assert commits[f"{EXTENSION}-phrases"] in listed
    assert (tmp_path / "clone/phrases/phrases.ini").is_file()
