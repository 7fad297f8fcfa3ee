"""Fixtures of the engine tests: stand-ins and images. Without an engine, skip; in CI, fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.engine.client import client, probe
from tests.support.running import invoke
from tests.support.up import StandIns, stand_ins

PROGRAMS = ("docker-registry", "git", "mmdebstrap")
"""Programs that the stand-ins need."""


@cache
def _missing_requirement() -> str:
    """Return why these tests cannot run here; empty when they can."""
    try:
        probe()
    except UserError as error:
        return f"engine tests need a Docker engine: {error}"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"engine tests need {', '.join(missing)} - run: scripts/bootstrap --yes nox"
    return ""


def pytest_runtest_setup() -> None:
    """Skip every test here where none can run, in one line of the summary; fail in CI."""
    if _missing_requirement():
        if os.environ.get("CI"):
            pytest.fail(_missing_requirement(), pytrace=False)
        pytest.skip(_missing_requirement())


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """Base images, git host, Hub and registry, and a config that names them."""
    folder = tmp_path_factory.mktemp("standins")
    with stand_ins(folder, folder / "config.yaml") as up:
        yield up
        _remove_tags_of(up.registry)


def _remove_tags_of(registry: str) -> None:
    """Remove image tags of a registry that is about to end."""
    engine = client()
    for image in engine.images.list():
        for tag in image.tags:
            if tag.startswith(f"{registry}/"):
                engine.images.remove(tag, force=True)  # the name only, even of one in use
    engine.close()


@pytest.fixture(scope="session")
def image_config(standins: StandIns) -> Path:
    """File for IMAGE_CONFIG."""
    return standins.config


@pytest.fixture(scope="session")
def checkpoint(standins: StandIns) -> Path:
    """The model file that the Hub serves."""
    return standins.checkpoint


@pytest.fixture(scope="session")
def registry(standins: StandIns) -> str:
    """host:port of a registry without a login."""
    return standins.registry


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store that all builds of this run share."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def cpu_image(image_config: Path, model_store: Path) -> str:
    """The image of the variant for machines without a GPU."""
    return built_image("cpu", image_config, model_store)


@pytest.fixture(scope="session")
def cuda_image(image_config: Path, model_store: Path) -> str:
    """The image of the default variant."""
    return built_image("cuda128", image_config, model_store)


def built_image(variant: str, config: Path, store: Path) -> str:
    """Build as a user does, or take the same image from BuildKit's cache."""
    tag = f"a1111-worker-test:{variant}"
    answer = invoke(
        *("build", "--variant", variant, "--tag", tag), config=config, MODELS_STORE=str(store)
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return tag
