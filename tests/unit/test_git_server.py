"""The stand-in git host gives the same commits everywhere, and single commits to who asks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.host.config.load import load
from tests.support.git_server import RELEASES, WEBUI, repositories, serving


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", *words], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return repositories(tmp_path_factory.getbasetemp() / "git")


@pytest.fixture(scope="module")
def url(commits: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert commits
    with serving(tmp_path_factory.getbasetemp() / "git") as url:
        yield url


def test_there_is_a_repository_for_each_source_of_the_config(commits: dict[str, str]) -> None:
    sources = load(variant="cuda128", define=()).config.a1111.sources
    assert {source.repo for source in sources.values()} == set(commits)


def test_made_again_the_commits_are_the_same(
    commits: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody else")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        assert repositories(tmp_path) == commits
        assert repositories(tmp_path) == commits
    finally:
        os.umask(old)


def test_any_commit_is_fetched_alone_by_its_sha(
    commits: dict[str, str], url: str, tmp_path: Path
) -> None:
    git("init", "--quiet", cwd=tmp_path)
    git("fetch", "--quiet", "--depth", "1", f"{url}/{WEBUI}", commits[WEBUI], cwd=tmp_path)
    git("checkout", "--quiet", "FETCH_HEAD", cwd=tmp_path)
    assert git("rev-list", "--count", "HEAD", cwd=tmp_path) == "1"
    assert git("rev-parse", "HEAD", cwd=tmp_path) == commits[WEBUI]
    assert (tmp_path / "webui.py").is_file()
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_webui_has_its_releases_as_tags(
    commits: dict[str, str], url: str, tmp_path: Path
) -> None:
    listing = git("ls-remote", "--tags", f"{url}/{WEBUI}.git", cwd=tmp_path)
    tagged = {line.split("\t")[1]: line.split("\t")[0] for line in listing.splitlines()}
    assert set(RELEASES) <= {name.rpartition("/")[2] for name in tagged}
    assert tagged[f"refs/tags/{RELEASES[0]}^{{}}"] == commits[WEBUI]
    assert tagged[f"refs/tags/{RELEASES[1]}^{{}}"] != commits[WEBUI]


def test_a_repository_that_is_not_there_fails_without_asking_for_a_password(
    url: str, tmp_path: Path
) -> None:
    run = ["git", "ls-remote", f"{url}/nobody/nothing"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "not found" in done.stderr
