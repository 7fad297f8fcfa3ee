"""Fixtures of the engine tests: stand-ins and images. Without an engine, skip; in CI, fail."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.engine.client import client, probe
from scripts.host.interruption import raise_on_signals
from tests.support import images
from tests.support.engine import engine
from tests.support.inputs import CHECKPOINT_FILE, CHECKPOINT_REPO
from tests.support.running import invoke
from tests.support.up import StandIns, stand_ins

LOCK = ROOT / "requirements/runpod.txt"
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


def pytest_sessionstart() -> None:
    """Have SIGTERM end the tests as Ctrl-C does, so that fixtures remove their containers."""
    raise_on_signals()


def pytest_runtest_setup() -> None:
    """Skip every test here where none can run, in one line of the summary; fail in CI."""
    if _missing_requirement():
        if os.environ.get("CI"):
            pytest.fail(_missing_requirement(), pytrace=False)
        pytest.skip(_missing_requirement())


@pytest.fixture(scope="session")
def runpod_python(pytestconfig: pytest.Config) -> Path:
    """A Python with the SDK, as locked for the image; made once for each lock."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if not python:
        pytest.skip("the image's Python, 3.11, is not here")
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    venv = pytestconfig.cache.mkdir("runpod") / digest
    if not (venv / "complete").exists():
        uv = [str(Path(sys.executable).with_name("uv"))]
        subprocess.run(
            [*uv, "venv", "--quiet", "--clear", "--python", python, str(venv)], check=True
        )
        arguments = ["--require-hashes", "--no-deps", "--requirement", str(LOCK)]
        into = ["--quiet", "--python", str(venv / "bin/python")]
        # Unlike pip, uv does not look at the system's certificates by itself.
        trusting = {**os.environ, "SSL_CERT_FILE": str(images.ca_bundle())}
        subprocess.run([*uv, "pip", "install", *into, *arguments], check=True, env=trusting)
        (venv / "complete").touch()
    return venv / "bin/python"


_shared = ExitStack()  # what the process that starts xdist's workers runs for them


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker of xdist the same stand-ins: addresses are keys of BuildKit's cache."""
    if not _missing_requirement():
        node.workerinput["standins"] = str(_standins_of_all_workers())


def pytest_unconfigure() -> None:
    """Stop the stand-ins that this process has started for others."""
    _shared.close()


@cache
def _standins_of_all_workers() -> Path:
    folder = Path(_shared.enter_context(tempfile.TemporaryDirectory()))
    return _shared.enter_context(_running_standins(folder)).config


@contextmanager
def _running_standins(folder: Path) -> Iterator[StandIns]:
    with stand_ins(folder, folder / "config.yaml") as up:
        yield up
        _remove_tags_of(up.registry)


@pytest.fixture(scope="session")
def image_config(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A file for IMAGE_CONFIG that names stand-ins for base images, git host, Hub and registry."""
    shared = getattr(request.config, "workerinput", {}).get("standins")
    if shared:
        yield Path(shared)
        return
    with _running_standins(tmp_path_factory.mktemp("standins")) as up:
        yield up.config


def _remove_tags_of(registry: str) -> None:
    """Remove image tags of a registry that is about to end."""
    engine = client()
    for image in engine.images.list():
        for tag in image.tags:
            if tag.startswith(f"{registry}/"):
                engine.images.remove(tag, force=True)  # the name only, even of one in use
    engine.close()


@pytest.fixture(scope="session")
def checkpoint(image_config: Path) -> Path:
    """The model file that the Hub serves."""
    return image_config.parent / "hub" / CHECKPOINT_REPO / CHECKPOINT_FILE


@pytest.fixture(scope="session")
def registry(image_config: Path) -> str:
    """host:port of a registry without a login."""
    repository: str = yaml.safe_load(image_config.read_text())["image"]["repository"]
    return repository.partition("/")[0]


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


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for sockets below it: 107 characters are the limit."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a mount may outlive its engine for a moment


@pytest.fixture
def second_engine(short_folder: Path) -> Iterator[str]:
    """The address of an engine of its own, with the containerd image store."""
    if os.geteuid() != 0:
        pytest.skip("starting a second engine needs root")
    with engine(short_folder, containerd_store=True) as address:
        yield address
