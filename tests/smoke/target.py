"""Settles what a smoke run is about, before anything runs, so that its absence is one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from scripts.common.checks.report import Subject
from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import VARIANT_LABEL, resolve
from scripts.host.config.load import DEFAULT_VARIANT, LoadedConfig, load
from scripts.host.engine.client import image_of
from tests.smoke.container_under_test import require_gpu

if TYPE_CHECKING:
    import docker

_WITHOUT_GPU: Final = "cpu"


@dataclass(frozen=True)
class Words:
    """What the user asked for; empty words leave it to what is there.

    Args:
        image: reference or ID of an image.
        variant: a name under `variants`.
        gpu: index, UUID, or all.
    """

    image: str = ""
    variant: str = ""
    gpu: str = ""


@dataclass(frozen=True)
class Chosen:
    """What is tested.

    Args:
        loaded: the config that says what is expected of it.
        subject: what the report says of it.
        image: as the SDK knows it; None for an address.
    """

    loaded: LoadedConfig
    subject: Subject
    image: Any = None


def at_address(url: str, variant: str) -> Chosen:
    """A worker that runs already."""
    subject = Subject(image=url, image_id="", variant="url")
    return Chosen(load(variant or DEFAULT_VARIANT), subject)


def in_image(client: docker.DockerClient, words: Words) -> Chosen:
    """An image: the one that is named, or this checkout's own of a variant.

    Raises:
        UserError: no such image or variant, no GPU where one is asked for.
    """
    usual = words.variant or (DEFAULT_VARIANT if words.gpu else _WITHOUT_GPU)
    loaded = load(usual)
    reference = words.image or resolve(loaded).tags[0]
    image = image_of(client, reference, usual)
    said = image.labels.get(VARIANT_LABEL, usual)
    if not words.variant and said in loaded.config.variants:
        loaded = load(said)
    if words.gpu:
        _want_cuda(loaded)
        require_gpu(client, image.id, words.gpu, loaded.variant)
    return Chosen(
        loaded,
        Subject(
            image=reference,
            image_id=image.id,
            variant=loaded.variant,
            digests=tuple(image.attrs.get("RepoDigests") or ()),
            labels=image.labels,
        ),
        image,
    )


def _want_cuda(loaded: LoadedConfig) -> None:
    if loaded.config.build.accelerator != "cuda":
        raise UserError(
            "this variant draws on the processor",
            location=loaded.variant,
            hint=f"test it with: nox -s smoke -- --variant {loaded.variant}",
        )
