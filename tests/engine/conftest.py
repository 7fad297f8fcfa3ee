"""What engine tests build with and push to; without an engine they are skipped, or fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from scripts.common.errors import Failure
from scripts.host.docker.engine import probe
from tests.engine.running import invoke
from tests.standins.up import StandIns, stand_ins

HERE = Path(__file__).parent


@cache
def no_engine() -> str:
    """Why there is no engine to test with, empty when there is one."""
    try:
        probe()
    except Failure as failure:
        return str(failure)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here its marker, and a reason to be skipped where there is no engine."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.engine)
        if no_engine() and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"engine tests need an engine: {no_engine()}"))


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """An engine with buildx. In CI its absence is a failure, not a reason to skip."""
    if no_engine():
        pytest.fail(no_engine(), pytrace=False)


@pytest.fixture(scope="session")
def standins(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:  # noqa: ARG001
    """Everything outside: base images, git host, Hub, registry, and the config that says so."""
    folder = tmp_path_factory.mktemp("standins")
    with stand_ins(folder, folder / "config.yaml") as up:
        yield up


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
    """host:port of a registry that anybody may push to."""
    return standins.registry


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store that all builds of this run share."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def cpu_image(image_config: Path, model_store: Path) -> str:
    """The image of the variant for machines without a GPU."""
    return _built("cpu", image_config, model_store)


@pytest.fixture(scope="session")
def cuda_image(image_config: Path, model_store: Path) -> str:
    """The image of the default variant."""
    return _built("cuda128", image_config, model_store)


def _built(variant: str, config: Path, store: Path) -> str:
    """Build as a user does; the same inputs come from BuildKit's cache."""
    tag = f"a1111-worker-test:{variant}"
    answer = invoke(
        *("build", "--variant", variant, "--tag", tag), config=config, MODELS_STORE=str(store)
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return tag
