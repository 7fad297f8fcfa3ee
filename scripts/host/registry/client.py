"""What a registry holds, and what its errors mean for the next step.

Digests are asked through the engine: it knows the credentials, proxies and certificates that a
push will use, so both see the same registry.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.host.engine.client import explanation

if TYPE_CHECKING:
    import docker

# What the engine says of a connection that broke, a peer that does not answer, or a 5xx.
_MAY_PASS = re.compile(
    r"\bEOF\b|connection (?:refused|reset)|broken pipe|time(?:d )?out|deadline exceeded"
    r"|server misbehaving|(?:status:?|:|HTTP) (?:429|5\d\d)\b|toomanyrequests"
    r"|closed network connection",
    re.IGNORECASE,
)


class Lost(Exception):  # noqa: N818 - not an error yet
    """The registry failed in a way that another try may fix."""


def digest(client: docker.DockerClient, reference: str) -> str | None:
    """The digest of the manifest that a registry has under a reference; None when it has none.

    Raises:
        Lost: another try may help.
        UserError: it will not.
    """
    import docker

    try:
        return str(client.images.get_registry_data(reference).id)
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        raise trouble(explanation(error), reference) from None
    except docker.errors.DockerException as error:
        raise unusable_credentials(error, reference) from None


def config_digest(reference: str) -> str | None:
    """The image ID that a registry's manifest stands for; None when it does not tell.

    The engine does not say it, buildx does.
    """
    words = ["docker", "buildx", "imagetools", "inspect", "--raw", reference]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return None
    manifest = json.loads(answer.stdout)
    return manifest.get("config", {}).get("digest") if isinstance(manifest, dict) else None


def trouble(message: str, reference: str) -> Lost | UserError:
    """What an error of the engine means for the next step: try again, or say it and stop.

    Args:
        message: the engine's words, which carry no credentials.
        reference: what was pushed or asked for.
    """
    message = " ".join(message.split())
    if diagnostics()["registry-refused"].search(message):
        return UserError(
            f"the registry refuses: {message}",
            location=reference,
            code="registry-refused",
            hint=f"log in: docker login {host(reference)}",
        )
    if _MAY_PASS.search(message):
        return Lost(message)
    return UserError(
        f"the registry did not take it: {message}",
        location=reference,
        hint="check image.repository",
    )


def unusable_credentials(error: Exception, reference: str) -> UserError:
    """The failure of a credential helper, which the SDK asks before it asks the engine."""
    return UserError(
        f"the credentials cannot be read: {error}",
        location=reference,
        code="registry-refused",
        hint=f"mend credsStore in Docker's config.json, or: docker login {host(reference)}",
    )


def host(reference: str) -> str:
    """The registry of a reference, as `docker login` takes it."""
    from docker.auth import resolve_repository_name

    return str(resolve_repository_name(reference)[0])
