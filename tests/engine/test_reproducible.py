"""The same commit makes the same image, whoever builds it and when."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.host.build.rebuild_difference import find_difference
from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from tests.engine.conftest import built_image
from tests.support.running import build_image, copy_of_the_checkout, invoke


@pytest.fixture
def other_checkout(tmp_path: Path) -> Path:
    """Another user's clone: files that only they may read, with other times."""
    before = os.umask(0o077)
    try:
        folder = tmp_path / "a clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        copy_of_the_checkout(folder)
    finally:
        os.umask(before)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o700 if os.access(path, os.X_OK) else 0o600)
            os.utime(path, (1_000_000_000, 1_000_000_000))
    return folder


def test_another_user_builds_the_same_image_without_cache(
    image_config: Path, model_store: Path, other_checkout: Path
) -> None:
    ours = built_image("cpu", image_config, model_store)
    theirs = "a1111-worker-test:again"
    build = ("build", "--variant", "cpu", "--verify", "--tag", theirs)
    answer = invoke(*build, config=image_config, root=other_checkout, MODELS_STORE=str(model_store))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "the second image is the same" in answer.stderr
    engine = client()
    first, second = (engine.images.get(tag) for tag in (ours, theirs))
    assert find_difference(engine, first, second) == ""
    assert second.id == first.id
    engine.close()


def test_the_first_file_that_differs_is_named(cpu_image: str) -> None:
    tags = [f"a1111-worker-test:differs-{content}" for content in ("one", "two")]
    for tag in tags:
        line = f"RUN echo {tag} >/opt/stamp && touch -d @0 /opt/stamp /opt"
        build_image(tag, f"FROM {cpu_image}\nUSER root\n{line}")
    engine = client()
    difference = find_difference(engine, *(engine.images.get(tag) for tag in tags))
    for tag in tags:
        engine.images.remove(tag, force=True)
    engine.close()
    assert difference.startswith("'/opt/stamp' (layer "), difference
