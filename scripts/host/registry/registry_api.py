"""Ask a registry what it holds, and classify its errors.

Digests are asked through the engine: it has the credentials, proxies and certificates of the push.
"""

import json
import re
from typing import Final

import docker

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.run import run_program
from scripts.host.engine.client import explanation

LOST: Final = "registry-lost"
"""Code of a failure that another attempt may not meet."""

# Errors of Go's net, net/http and http2 packages and of registries that another attempt may not
# meet, by kind. The engine passes them on as text.
_TRANSIENT: Final = re.compile(
    r"\bEOF\b"
    r"|connection (?:refused|reset|aborted|closed|lost|broken)|broken pipe"
    r"|closed (?:idle |network |the )?connection|transport (?:was )?closed|GOAWAY|stream error"
    r"|time(?:d )?-?out|deadline exceeded"
    r"|no route to host|network is unreachable|server misbehaving|temporary failure"
    r"|(?:status:?|:|HTTP) (?:429|5\d\d)\b|too ?many ?requests",
    re.IGNORECASE,
)


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
    refused = diagnostics()["registry-refused"]
    if refused.search(message):
        return UserError(
            f"the registry refuses: {message}",
            location=reference,
            code=refused.code,
            hint=f"log in: docker login {host(reference)}",
        )
    if _TRANSIENT.search(message):
        return UserError(
            f"the registry cannot be reached: {message}", location=reference, code=LOST
        )
    return UserError(
        f"the registry did not accept it: {message}",
        location=reference,
        hint="check image.repository",
    )


def host(reference: str) -> str:
    """Return the registry of a reference, as `docker login` takes it."""
    return str(docker.auth.resolve_repository_name(reference)[0])
