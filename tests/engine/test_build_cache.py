"""Building for a team: registry cache in and out, and a BuildKit on another machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.host.engine.client import client as connect
from tests.support.buildkit import buildkit
from tests.support.engine import copy_image
from tests.support.registry import read_manifest
from tests.support.running import copy_of_the_checkout, invoke


@pytest.fixture
def remote_builder(second_engine: str, image_config: Path) -> Iterator[str]:
    """A buildx builder with the second engine's BuildKit, over TCP."""
    copy_image(yaml.safe_load(image_config.read_text())["base"]["download"], second_engine)
    name = f"remote-{os.getpid()}"
    with buildkit(second_engine) as address:
        create = ["docker", "buildx", "create", "--name", name, "--driver", "remote", address]
        subprocess.run(create, check=True, capture_output=True)
        yield name
        subprocess.run(["docker", "buildx", "rm", name], check=True, capture_output=True)


Build = Callable[..., dict[str, Any]]


@pytest.fixture
def build(image_config: Path, tmp_path: Path) -> Build:
    """Build a stage without models in a checkout of the test's own, and return the report."""
    checkout = copy_of_the_checkout(tmp_path / "checkout")

    def run(*options: str) -> dict[str, Any]:
        command = ("build", "--variant", "cpu", "--target", "sources", *options)
        answer = invoke(*command, config=image_config, root=checkout)
        assert answer.returncode == 0, answer.stderr
        assert "left out" not in answer.stderr
        report: dict[str, Any] = json.loads((checkout / "reports/build.json").read_text())
        return report

    return run


def reused(report: dict[str, Any]) -> list[bool]:
    """Return for each RUN step whether it came from a cache."""
    return [step["cached"] for step in report["steps"] if step["instruction"].startswith("RUN")]


def forget(*command: str) -> None:
    """Empty a builder's cache."""
    prune = ["docker", *command, "--all", "--force"]
    subprocess.run(prune, check=True, capture_output=True)


@pytest.mark.slow
def test_builders_share_a_registry_cache(
    second_engine: str,
    image_config: Path,
    build: Build,
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_image(yaml.safe_load(image_config.read_text())["base"]["download"], second_engine)
    monkeypatch.setenv("DOCKER_HOST", second_engine)
    cache = f"type=registry,ref={registry}/cache"
    out, back = f'build.cache.to=["{cache},mode=max"]', f'build.cache.from=["{cache}"]'
    assert reused(build("-D", out)) == [False, False]
    forget("buildx", "prune")
    assert reused(build("-D", back)) == [True, True]


@pytest.mark.slow
def test_a_remote_buildkit_loads_into_the_local_engine(
    remote_builder: str, build: Build, registry: str
) -> None:
    cache = f"type=registry,ref={registry}/remote-cache"
    tag = "a1111-worker-test:remote"
    client = connect()
    try:
        report = build(
            *("--builder", remote_builder, "--tag", tag),
            *("-D", f'build.cache.to=["{cache},mode=max"]'),
        )
        assert reused(report) == [False, False]
        image = client.images.get(tag)
        assert report["image_id"] == image.id
        assert report["tags"] == [tag]
        assert report["size"] == image.attrs["Size"]
        forget("buildx", "prune", "--builder", remote_builder)
        define = (f"build.builder={remote_builder}", f'build.cache.from=["{cache}"]')
        again = build(*(word for each in define for word in ("-D", each)))
        assert reused(again) == [True, True]
        assert again["image_id"] == image.id
    finally:
        client.images.remove(tag, force=True)
        client.close()


@pytest.mark.slow
def test_new_layers_are_compressed_as_configured_and_pushed_so(
    second_engine: str,
    image_config: Path,
    build: Build,
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base: str = yaml.safe_load(image_config.read_text())["base"]["download"]
    copy_image(base, second_engine)
    monkeypatch.setenv("DOCKER_HOST", second_engine)
    below = f"{registry}/compressed"
    tags = {"base": base, "image": f"{below}:image"}
    built = build("-D", "push.compression=zstd", "--tag", tags["image"])
    client = connect()
    client.images.get(base).tag(below, "base")
    for tag in tags:
        client.images.push(below, tag)
    pushed = client.images.get_registry_data(tags["image"]).id
    client.close()
    assert pushed == built["image_id"]
    layers = {tag: read_manifest(registry, "compressed", tag)["layers"] for tag in tags}
    count = len(layers["base"])
    assert [each["digest"] for each in layers["image"][:count]] == [
        each["digest"] for each in layers["base"]
    ]
    assert {each["mediaType"].rpartition("+")[2] for each in layers["image"][count:]} == {"zstd"}


def test_an_unsupported_cache_export_is_left_out_with_a_warning(image_config: Path) -> None:
    answer = invoke(
        *("build", "--variant", "cpu", "--target", "sources"),
        *("-D", 'build.cache.to=["type=registry,ref=127.0.0.1:9/cache"]'),
        config=image_config,
    )
    assert answer.returncode == 0, answer.stderr
    assert "build.cache.to is left out" in answer.stderr
