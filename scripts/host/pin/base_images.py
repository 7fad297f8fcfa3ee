"""Finds the digests of the base images, through the engine, which knows mirrors and credentials."""

from __future__ import annotations

from scripts.host.build.inputs import resolve_base
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock
from scripts.host.engine.client import client, docker_errors


def digest_of(loaded: LoadedConfig, reference: str) -> str:
    """The digest a registry gives for a base image now, through `mirrors.registry` if set.

    Raises:
        UserError: no engine answers, or the registry has no such image.
    """
    asked = resolve_base(reference, Lock(), loaded.config.mirrors.registry).reference
    with docker_errors(
        asked,
        message="the registry gives no digest",
        hint="check base.*, mirrors.registry and docker login",
    ):
        return str(client().images.get_registry_data(asked).id)
