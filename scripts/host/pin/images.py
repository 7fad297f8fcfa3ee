"""Finds the digests of the base images, through the engine, which knows mirrors and credentials."""

from __future__ import annotations

from dataclasses import replace

from scripts.common.errors import Failure
from scripts.host.config.load import Loaded
from scripts.host.config.lock import Lock
from scripts.host.docker.arguments import base_reference
from scripts.host.docker.engine import client


def digest_of(loaded: Loaded, reference: str) -> str:
    """The digest a registry gives for a base image now, through `mirrors.registry` if set.

    Raises:
        Failure: no engine answers, or the registry has no such image.
    """
    from docker.errors import APIError

    asked = base_reference(replace(loaded, lock=Lock()), reference)
    try:
        return str(client().images.get_registry_data(asked).id)
    except APIError as error:
        raise Failure(
            f"the registry gives no digest: {error.explanation or error}",
            where=asked,
            cure="check base.*, mirrors.registry and docker login",
        ) from None
