"""Talks to the Docker engine: whether it answers, and what it can do."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.common.diagnostics.error import UserError
from scripts.common.run import run_program

if TYPE_CHECKING:
    import docker

_TIMEOUT = 20  # seconds for one answer; a second is much
MINIMUM_BUILDX = (0, 13)  # the first with --progress=rawjson


@dataclass(frozen=True)
class Engine:
    """What is known of the engine and of buildx.

    Args:
        version: of the engine.
        buildx: version of buildx as two numbers.
        containerd_store: whether images are kept by containerd, which attestations need.
    """

    version: str
    buildx: tuple[int, int]
    containerd_store: bool


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return run_program(
        ["docker", *words],
        timeout=_TIMEOUT,
        location=os.environ.get("DOCKER_HOST", ""),
        missing_hint="install a Docker engine: scripts/bootstrap --yes invoke doctor",
        timeout_hint="restart the engine, or check DOCKER_HOST and the network",
        code="engine-missing",
    )


def probe() -> Engine:
    """Ask the engine and buildx what they are.

    Raises:
        UserError: no engine answers, or buildx is missing or too old.
    """
    info = _docker("info", "--format", "{{json .}}")
    facts = json.loads(info.stdout) if info.stdout.startswith("{") else {}
    if info.returncode != 0 or not facts.get("ServerVersion"):
        last = (info.stderr.strip() or "; ".join(facts.get("ServerErrors") or [])).splitlines()
        raise UserError(
            f"no Docker engine answers: {last[-1] if last else 'no reason given'}",
            location=os.environ.get("DOCKER_HOST", ""),
            code="engine-missing",
        )
    store = any("containerd.snapshotter" in str(pair) for pair in facts.get("DriverStatus") or [])
    return Engine(str(facts["ServerVersion"]), _buildx_version(), store)


def _buildx_version() -> tuple[int, int]:
    answer = _docker("buildx", "version")
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) < 2:
        raise UserError("the Docker engine has no buildx", code="buildx-missing")
    major, minor = (int(part) for part in words[1].lstrip("v").split(".")[:2])
    if (major, minor) < MINIMUM_BUILDX:
        raise UserError(
            f"buildx {words[1]} is too old",
            code="buildx-missing",
            hint=f"install {MINIMUM_BUILDX[0]}.{MINIMUM_BUILDX[1]} or newer",
        )
    return major, minor


def builder_driver(name: str | None) -> str:
    """The driver of a buildx builder (`docker`, `docker-container`, `remote`, …).

    Raises:
        UserError: there is no such builder.
    """
    answer = _docker("buildx", "inspect", *([name] if name else []))
    for line in answer.stdout.splitlines():
        key, _, value = line.partition(":")
        if key == "Driver":
            return value.strip()
    raise UserError(
        f"there is no buildx builder {name}", location="build.builder", hint="see: docker buildx ls"
    )


def client() -> docker.DockerClient:
    """The SDK's client for the same engine the command line talks to.

    Raises:
        UserError: no engine answers.
    """
    import docker

    try:
        connected = docker.from_env()
        connected.ping()
    except docker.errors.DockerException as error:
        raise UserError(f"no Docker engine answers: {error}", code="engine-missing") from None
    return connected


def image_of(client: docker.DockerClient, reference: str, variant: str = "") -> Any:  # noqa: ANN401 - the SDK is untyped
    """An image as the SDK knows it.

    Args:
        client: the engine.
        reference: or ID.
        variant: whose build makes it; empty where it may be anybody's.

    Raises:
        UserError: there is no such image.
    """
    import docker

    try:
        return client.images.get(reference)
    except docker.errors.ImageNotFound:
        hint = f"run: invoke build --variant {variant}" if variant else "see: docker image ls"
        raise UserError("there is no such image", location=reference, hint=hint) from None
