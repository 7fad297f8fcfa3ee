"""Finds the digests of the base images, through the engine, which knows mirrors and credentials."""

from __future__ import annotations

from dataclasses import replace

from scripts.common.diagnostics.error import UserError
from scripts.host.build.arguments import base_reference
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock
from scripts.host.engine.client import client


def digest_of(loaded: LoadedConfig, reference: str) -> str:
    """The digest a registry gives for a base image now, through `mirrors.registry` if set.

    Raises:
        UserError: no engine answers, or the registry has no such image.
    """
    from docker.errors import APIError

    asked = base_reference(replace(loaded, lock=Lock()), reference)
    try:
        return str(client().images.get_registry_data(asked).id)
    except APIError as error:
        raise UserError(
            f"the registry gives no digest: {error.explanation or error}",
            location=asked,
            hint="check base.*, mirrors.registry and docker login",
        ) from None
