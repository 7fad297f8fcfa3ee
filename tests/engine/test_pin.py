"""`invoke pin` gets the digests of base images from a real registry."""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.lock import Lock, resolve_base
from scripts.host.engine.client import client as connect
from scripts.host.pin.pin_network import find_digest
from tests.support.errors import user_error
from tests.support.registry import PASSWORD, USER, Registry, registry

pytestmark = pytest.mark.engine

BASE = "alpine/git:2.43.0"


@pytest.fixture(autouse=True)
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the test an empty Docker config, and return its path."""
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


def publish(there: Registry, reference: str = BASE) -> str:
    """Push a new small image under a base image's name, remove it here, and return its digest."""
    engine: Any = connect()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 16
        archive.addfile(entry, io.BytesIO(secrets.token_bytes(16)))
    name = f"{there.address}/{reference}"
    repository, tag = name.rsplit(":", 1)
    engine.api.import_image_from_data(data.getvalue(), repository, tag)
    try:
        lines = [json.loads(line) for line in engine.api.push(name).splitlines()]
        errors = [line["error"] for line in lines if "error" in line]
        assert not errors, errors
        return str(next(line["aux"]["Digest"] for line in lines if "aux" in line))
    finally:
        engine.images.remove(name)
        engine.close()


def test_builds_start_from_the_digest_that_the_registry_gives(mirror: Registry) -> None:
    digest = publish(mirror)
    assert find_digest(BASE, mirror.address) == digest
    base = resolve_base(BASE, Lock(images={BASE: digest}), mirror.address)
    assert base.reference == f"{mirror.address}/{BASE}@{digest}"


def test_moved_tag_gives_its_new_digest(mirror: Registry) -> None:
    old = publish(mirror)
    new = publish(mirror)
    assert find_digest(BASE, mirror.address) == new != old


def test_missing_image_is_one_line_with_its_full_name(mirror: Registry) -> None:
    error = user_error(find_digest, "alpine/git:gone", mirror.address)
    assert f"{mirror.address}/alpine/git:gone" in str(error)
    assert "\n" not in str(error)


def test_registry_gets_the_credentials_of_docker_login(
    guarded: Registry, docker_config: Path
) -> None:
    with pytest.raises(UserError, match="docker login"):
        find_digest(BASE, guarded.address)
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    docker_config.write_text(json.dumps({"auths": {guarded.address: {"auth": secret}}}))
    digest = publish(guarded)
    assert find_digest(BASE, guarded.address) == digest
