"""Ask a registry what it holds, and classify its errors.

Digests are asked through the engine: it has the credentials, proxies and certificates of the push.
"""

import json
from collections.abc import Mapping
from typing import Final

import docker

from scripts.common.diagnostics.error import UserError
from scripts.common.run import run_program
from scripts.host.engine.client import explanation
from scripts.host.registry.refusals import LOST, REFUSED, find_refusal

_SAID: Final[Mapping[str, str]] = {
    LOST: "the registry cannot be reached",
    REFUSED: "the registry refuses",
}


def read_digest(client: docker.DockerClient, reference: str) -> str | None:
    """Return the digest of the manifest that a registry has under a reference; None without one.

    Raises:
        UserError: the registry refuses or does not answer, see `classify`.
    """
    try:
        return str(client.images.get_registry_data(reference).id)
    except docker.errors.NotFound:
        return None
    except docker.errors.DockerException as error:
        raise classify(error, reference) from None


def read_image_id(reference: str) -> str | None:
    """Return the image ID that a registry's manifest names; None where it cannot be read.

    The engine does not report it, buildx does.
    """
    answer = run_program(["docker", "buildx", "imagetools", "inspect", "--raw", reference])
    if answer.returncode != 0:
        return None
    manifest = json.loads(answer.stdout)
    return manifest.get("config", {}).get("digest") if isinstance(manifest, dict) else None


def classify(error: Exception | str, reference: str) -> UserError:
    """Return the error to raise for one of a push or a look-up; with LOST another try may help.

    Args:
        error: of the SDK, or the engine's message; it holds no credentials.
        reference: what was pushed or looked up.
    """
    if isinstance(error, docker.errors.DockerException) and not isinstance(
        error, docker.errors.APIError
    ):  # of a credential helper, which the SDK asks before it asks the engine
        return UserError(
            f"the credentials cannot be read: {error}",
            location=reference,
            code="registry-refused",
            hint=f"correct credsStore in Docker's config.json, or: docker login {host(reference)}",
        )
    message = " ".join(error.split()) if isinstance(error, str) else explanation(error)
    found = find_refusal(message, host(reference))
    said = _SAID.get(found.code, "the registry did not accept it")
    return UserError(f"{said}: {message}", location=reference, code=found.code, hint=found.hint)


def host(reference: str) -> str:
    """Return the registry of a reference, as `docker login` takes it."""
    return str(docker.auth.resolve_repository_name(reference)[0])
