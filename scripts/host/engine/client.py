"""Connect to the Docker engine, ask what it can do, and report its errors to the user."""

import json
import os
import platform
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import docker
from requests import RequestException
from urllib3.exceptions import HTTPError

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import match
from scripts.common.run import last_line, run_program
from scripts.host.config.load import ROOT

_TIMEOUT: Final = 60  # seconds for one short answer; less than one is usual
# Seconds without a byte from the engine. It says nothing while it commits or removes a large image,
# or while a registry stores a large layer; the SDK's own 60 s end that on a busy machine.
_SILENCE: Final = 900


@dataclass(frozen=True)
class Engine:
    """Abilities of the engine.

    Args:
        buildx: version of buildx, such as 0.13.
        containerd_store: whether containerd keeps the images, which attestations need.
        is_here: whether it reaches servers at this machine's 127.0.0.1: not from a virtual machine,
            another host, a container or a rootless engine's own network.
    """

    buildx: str
    containerd_store: bool
    is_here: bool


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    _give_buildx_a_folder()
    return run_program(
        ["docker", *arguments],
        timeout=_TIMEOUT,
        location=os.environ.get("DOCKER_HOST", ""),
        missing_hint="install a Docker engine: scripts/bootstrap --yes invoke doctor",
        timeout_hint="restart the engine, or check DOCKER_HOST and the network",
        code="engine-missing",
    )


def _give_buildx_a_folder() -> None:
    """Let buildx keep its state in the checkout where the home folder cannot be written.

    Without a folder to write to, it does nothing at all (its variable BUILDX_CONFIG:
    https://docs.docker.com/build/building/variables/).
    """
    home = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111 - never fails
    folder = Path(os.environ.get("BUILDX_CONFIG") or f"{home}/buildx")
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK):
        os.environ["BUILDX_CONFIG"] = str(ROOT / "reports" / "buildx")


def probe() -> Engine:
    """Ask the engine and buildx what they can do.

    Raises:
        UserError: no engine answers, or buildx is missing or too old.
    """
    info = _docker("info", "--format", "{{json .}}")
    facts = json.loads(info.stdout) if info.stdout.startswith("{") else {}
    if info.returncode != 0 or not facts.get("ServerVersion"):
        reason = "; ".join(facts.get("ServerErrors") or []) or last_line(info)
        raise UserError(
            f"no Docker engine answers: {reason}",
            location=os.environ.get("DOCKER_HOST", ""),
            code="engine-missing",
        )
    store = any("containerd.snapshotter" in str(pair) for pair in facts.get("DriverStatus") or [])
    is_here = facts.get("Name") == platform.node() and not any(
        "rootless" in each for each in facts.get("SecurityOptions") or []
    )
    return Engine(_buildx_version(), store, is_here)


def _buildx_version() -> str:
    answer = _docker("buildx", "version")  # github.com/docker/buildx v0.13.1 788433953af1…
    fields = answer.stdout.split()
    if answer.returncode != 0 or len(fields) < 2:
        raise UserError("the Docker engine has no buildx", code="buildx-missing")
    major, minor = fields[1].lstrip("v").split(".")[:2]
    if (int(major), int(minor)) < (0, 13):  # the first with --progress=rawjson
        raise UserError(f"buildx {fields[1]} is older than 0.13", code="buildx-missing")
    return f"{major}.{minor}"


def builder_driver(name: str | None) -> str:
    """Return the driver of a buildx builder (`docker`, `docker-container`, `remote`, …).

    Raises:
        UserError: there is no such builder.
    """
    answer = _docker("buildx", "inspect", *([name] if name else []))
    found = re.search(r"^Driver:\s*(\S+)", answer.stdout, re.MULTILINE)
    if not found:
        message, hint = f"there is no buildx builder {name}", "see: docker buildx ls"
        raise UserError(message, location="build.builder", hint=hint)
    return found[1]


def find_address() -> str:
    """Return the address of the engine that the command line uses.

    DOCKER_HOST comes before the context in use
    (https://docs.docker.com/engine/manage-resources/contexts/).

    Raises:
        UserError: there is no such context.
    """
    if address := os.environ.get("DOCKER_HOST"):
        return address
    answer = _docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    if answer.returncode:
        hint = "see: docker context ls"
        raise UserError(_no_answer(answer), code="engine-missing", hint=hint)
    return answer.stdout.strip()


def client() -> docker.DockerClient:
    """Connect the SDK to the engine that the command line uses.

    Raises:
        UserError: no engine answers.
    """
    address = find_address()
    # The SDK needs another library for ssh, and reads contexts its own way: where one does not
    # exist, it takes the default engine.
    is_direct = address.startswith("unix:") or (
        "DOCKER_HOST" in os.environ and not address.startswith("ssh:")
    )
    with docker_errors(address, message="no Docker engine answers", code="engine-missing"):
        environment = {**os.environ, "DOCKER_HOST": address if is_direct else _forward()}
        connected = docker.from_env(environment=environment, timeout=_TIMEOUT)
        connected.ping()
    connected.api.timeout = _SILENCE
    return connected


@cache
def _forward() -> str:
    """Return the address of a socket whose connections the command line makes to its engine.

    Raises:
        UserError: no engine answers.
    """
    answer = _docker("version", "--format", "{{.Server.Version}}")
    if answer.returncode:
        raise UserError(_no_answer(answer), location=find_address(), code="engine-missing")
    folder = tempfile.TemporaryDirectory(prefix="engine-")
    path = f"{folder.name}/socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with folder:  # which lives as long as this thread
            while True:
                connection, _ = listener.accept()
                with connection:
                    # Ctrl-C must not reach it: what has been started is stopped through it.
                    subprocess.Popen(
                        ["docker", "system", "dial-stdio"],
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    )

    threading.Thread(target=serve, daemon=True).start()
    return f"unix://{path}"


def _no_answer(done: subprocess.CompletedProcess[str]) -> str:
    return f"no Docker engine answers: {last_line(done)}"


@contextmanager
def docker_errors(
    location: str = "", *, message: str = "the engine refuses", hint: str = "", code: str = ""
) -> Iterator[None]:
    """Raise errors of the Docker SDK and of the connection to the engine as UserError.

    Args:
        location: image, container or registry reference that the calls concern.
        message: what failed; the engine's reason is appended.
        hint: the next step where the error is of no known kind.
        code: of the failure; without one, known kinds are recognised and get their own.

    Raises:
        UserError: for every error of the engine or of the connection.
    """
    try:
        yield
    except docker.errors.ImageNotFound:
        raise UserError(
            "there is no such image", location=location, hint=hint or "see: docker image ls"
        ) from None
    except docker.errors.DockerException as error:
        reason = explanation(error)
        if not code and (known := match(reason)):
            code, hint = known.code, known.hint
        raise UserError(
            f"{message}: {reason}",
            location=location,
            code=code,
            hint=hint or ("" if code else "see: docker info"),
        ) from None
    # urllib3's own errors come from streams, which the SDK reads past requests.
    except (RequestException, HTTPError) as error:
        raise UserError(
            f"the connection to the engine was lost: {explanation(error)}",
            location=location,
            code="engine-missing",
        ) from None


def explanation(error: Exception) -> str:
    """Return the reason that an error of the SDK gives, as one line."""
    if isinstance(error, docker.errors.ContainerError):  # of a command that failed
        stderr = (error.stderr or b"").decode("utf-8", "replace").strip()
        return stderr.splitlines()[-1] if stderr else f"exit status {error.exit_status}"
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def get_image(client: docker.DockerClient, reference: str, variant: str = "") -> Any:  # noqa: ANN401 - the SDK is untyped
    """Return an image as the SDK represents it.

    Args:
        client: the engine.
        reference: or ID.
        variant: whose build makes it; empty where it may be any image.

    Raises:
        UserError: there is no such image.
    """
    hint = f"run: invoke build --variant {variant}" if variant else ""
    with docker_errors(reference, hint=hint):
        return client.images.get(reference)
