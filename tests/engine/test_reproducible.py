"""The same commit makes the same image, whoever builds it, where and when."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import yaml

from scripts.host.build.second_builder import SECOND_BUILDER
from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from tests.engine.conftest import built_image
from tests.support.buildkit import buildkit
from tests.support.engine import copy_image, engine
from tests.support.registry import read_manifest
from tests.support.running import copy_of_the_checkout, error_line, invoke


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


@pytest.fixture
def second_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an engine of its own, with the store that the test asks for."""
    if os.geteuid() != 0:
        pytest.skip("starting a second engine needs root")
    with (
        # A short path, for sockets; a mount may outlive its engine for a moment.
        tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder,
        engine(Path(folder), containerd_store=request.param) as address,
    ):
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("second_engine", [False], indirect=True, ids=["classic"])
def test_another_user_builds_the_same_image_on_another_engine(
    image_config: Path, model_store: Path, other_checkout: Path, second_engine: str
) -> None:
    ours = built_image("cpu", image_config, model_store)
    for base in yaml.safe_load(image_config.read_text())["base"].values():
        copy_image(base, second_engine)
    build = ("build", "--variant", "cpu", "--tag", ours)
    there = {"MODELS_STORE": str(model_store), "DOCKER_HOST": second_engine}
    answer = invoke(*build, config=image_config, root=other_checkout, **there)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    ids = [each.images.get(ours).id for each in (client(), docker.DockerClient(second_engine))]
    assert ids[0] == ids[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("second_engine", [True], indirect=True, ids=["containerd"])
def test_an_image_in_containerds_store_is_built_smoked_and_pushed(
    image_config: Path,
    model_store: Path,
    other_checkout: Path,
    second_engine: str,
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = yaml.safe_load(image_config.read_text())
    for base in settings["base"].values():
        copy_image(base, second_engine)
    settings["image"] = {"repository": f"{registry}/containerd", "tags": ["tested"]}
    settings["image"]["moving_tags"] = []
    config = other_checkout.parent / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DOCKER_HOST", second_engine)
    monkeypatch.setenv("IMAGE_CONFIG", str(config))
    monkeypatch.setenv("MODELS_STORE", str(model_store))
    for command in (
        ("invoke", "build", "--variant", "cpu"),
        ("nox", "-s", "smoke", "--", "--variant", "cpu"),
        ("invoke", "push", "--variant", "cpu"),
    ):
        run = [sys.executable, "-m", *command]
        done = subprocess.run(run, cwd=other_checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    layers = read_manifest(registry, "containerd", "tested")["layers"]
    assert layers[-1]["mediaType"].endswith("+gzip")


Verify = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def verify(image_config: Path, model_store: Path, tmp_path: Path) -> Verify:
    """Build a small Dockerfile twice, in a checkout of the test's own."""
    root = copy_of_the_checkout(tmp_path / "checkout")

    def run(dockerfile: str) -> subprocess.CompletedProcess[str]:
        (root / "Dockerfile").write_text(dockerfile)
        command = ("build", "--variant", "cpu", "--verify")
        return invoke(*command, config=image_config, root=root, MODELS_STORE=str(model_store))

    return run


@pytest.mark.parametrize("second_engine", [True], indirect=True, ids=["containerd"])
def test_verify_builds_in_the_second_builder(
    verify: Verify,
    second_engine: str,
    image_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = yaml.safe_load(image_config.read_text())["base"]["download"]
    copy_image(base, second_engine)
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    with buildkit(second_engine) as address:
        create = ["docker", "buildx", "create", "--name", SECOND_BUILDER, "--driver", "remote"]
        subprocess.run([*create, address], check=True, capture_output=True)
        answer = verify(
            f"FROM {base} AS made\n"
            "RUN mkdir /made && echo same >/made/same && touch -d @0 /made/same /made\n"
            "FROM scratch AS build_final_image\nCOPY --from=made /made /made"
        )
    assert answer.returncode == 0, answer.stderr
    assert f"building again without cache in {SECOND_BUILDER}" in answer.stderr
    assert answer.stderr.count("echo same") == 2, answer.stderr
    assert "the second image is the same" in answer.stderr


def test_without_a_second_builder_the_first_names_the_file_that_differs(
    verify: Verify, cpu_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # BuildKit's image cannot be pulled where the program that keeps the credentials is missing.
    (tmp_path / "config.json").write_text('{"credsStore": "missing"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    stamp = "date +%N >/opt/stamp && touch -d @0 /opt/stamp /opt"
    answer = verify(f"FROM {cpu_image} AS build_final_image\nUSER root\nRUN {stamp}")
    assert "no second builder, so the first one builds again" in answer.stderr
    assert "'/opt/stamp' (layer " in error_line(answer)
    assert "not-reproducible" in error_line(answer)
