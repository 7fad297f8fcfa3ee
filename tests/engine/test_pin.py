"""`invoke pin` asks a real registry for the digests of the base images."""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig, load
from scripts.host.config.lock import Lock
from scripts.host.pin.base_images import digest_of
from tests.support.registry import PASSWORD, USER, Registry, registry

pytestmark = pytest.mark.engine

BASE = "alpine/git:2.43.0"


@pytest.fixture(autouse=True)
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this test's credentials lie; nobody else's config counts."""
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("mirror")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("guarded"), locked=True) as running:
        yield running


def published(there: Registry, reference: str = BASE) -> str:
    """Push a new small image, as a base image through that mirror, and forget it; its digest."""
    engine: Any = docker.from_env()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 16
        archive.addfile(entry, io.BytesIO(secrets.token_bytes(16)))
    name = f"{there.address}/{reference}"
    repository, tag = name.rsplit(":", 1)
    engine.api.import_image_from_data(data.getvalue(), repository, tag)
    try:
        said = [json.loads(line) for line in engine.api.push(name).splitlines()]
        errors = [line["error"] for line in said if "error" in line]
        assert not errors, errors
        return str(next(line["aux"]["Digest"] for line in said if "aux" in line))
    finally:
        engine.images.remove(name)
        engine.close()


def through(there: Registry) -> LoadedConfig:
    return load("cpu", [f"mirrors.registry={there.address}"])


def test_the_digest_is_the_registrys_and_builds_then_start_from_it(mirror: Registry) -> None:
    digest = published(mirror)
    loaded = through(mirror)
    assert digest_of(loaded, BASE) == digest
    pinned = replace(loaded, lock=Lock(images={BASE: digest}))
    assert resolve(pinned).download_base.reference == f"{mirror.address}/{BASE}@{digest}"


def test_a_tag_that_moved_gives_its_new_digest_although_the_lock_knows_the_old(
    mirror: Registry,
) -> None:
    old = published(mirror)
    new = published(mirror)
    loaded = replace(through(mirror), lock=Lock(images={BASE: old}))
    assert digest_of(loaded, BASE) == new != old


def test_an_image_that_is_not_there_is_one_line_with_its_whole_name(mirror: Registry) -> None:
    with pytest.raises(UserError) as failed:
        digest_of(through(mirror), "alpine/git:gone")
    assert f"{mirror.address}/alpine/git:gone" in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_registry_that_asks_for_a_password_is_given_the_one_of_docker_login(
    guarded: Registry, docker_config: Path
) -> None:
    with pytest.raises(UserError, match="docker login"):
        digest_of(through(guarded), BASE)
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    docker_config.write_text(json.dumps({"auths": {guarded.address: {"auth": secret}}}))
    digest = published(guarded)
    assert digest_of(through(guarded), BASE) == digest
