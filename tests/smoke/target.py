"""Select what a smoke run tests before it starts, so that a missing image or GPU is one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from scripts.common.checks.expectations import Expectations
from scripts.common.checks.smoke_report import SubjectRecord
from scripts.common.diagnostics.error import UserError
from scripts.common.webui_settings import parse_settings
from scripts.host.build.image_labels import BUILD_ID_LABEL, VARIANT_LABEL
from scripts.host.build.inputs import resolve
from scripts.host.build.smoke_expectations import make_expectations
from scripts.host.config.load import DEFAULT_VARIANT, LoadedConfig, load
from scripts.host.engine.client import get_image
from tests.smoke.container_under_test import require_gpu
from tests.smoke.job_queue import JobQueue

if TYPE_CHECKING:
    import docker

_WITHOUT_GPU: Final = "cpu"


@dataclass(frozen=True)
class Target:
    """Subject of a run.

    Args:
        loaded: config that says what is expected of it.
        subject: its record in the report.
        image: object of the Docker SDK; None for an address or an endpoint.
        queue: of an endpoint; None for an image or an address.
    """

    loaded: LoadedConfig
    subject: SubjectRecord
    image: Any = None
    queue: JobQueue | None = None

    @cached_property
    def expectations(self) -> Expectations:
        """What the config expects of it; no models of an address."""
        found = make_expectations(self.loaded)
        return found if self.image else found.model_copy(update={"models": ()})

    @property
    def options(self) -> Mapping[str, Any]:
        """The WebUI's options that image and config set; none for an address."""
        if not self.image:
            return {}
        variables = dict(text.partition("=")[::2] for text in self.image.attrs["Config"]["Env"])
        baked = parse_settings(variables.get("IMAGE_SETTINGS", ""))
        return {**baked, **self.loaded.config.webui.settings}

    @property
    def png_settings(self) -> Mapping[str, Any]:
        """The option that makes the image answer with PNG, which is judged, where it does not."""
        is_png = str(self.options.get("samples_format", "png")).lower() == "png"
        return {} if is_png else {"samples_format": "png"}


def select_address(url: str, variant: str) -> Target:
    """Select a running worker."""
    subject = SubjectRecord(image=url, image_id="", variant="url")
    return Target(load(variant or DEFAULT_VARIANT), subject)


def select_endpoint(endpoint: str, variant: str) -> Target:
    """Select a serverless endpoint of RunPod.

    Raises:
        UserError: there is no such variant, or no key in the environment.
    """
    loaded = load(variant or DEFAULT_VARIANT)
    queue = JobQueue.from_environment(endpoint, str(loaded.ca_bundle or ""))
    subject = SubjectRecord(image=f"endpoint {endpoint}", image_id="", variant="endpoint")
    return Target(loaded, subject, queue=queue)


def select_image(
    client: docker.DockerClient, reference: str = "", variant: str = "", gpu: str = ""
) -> Target:
    """Select an image.

    Args:
        client: the engine.
        reference: name or ID; by default this checkout's image of the variant.
        variant: a name under `variants`; by default the image's own.
        gpu: index, UUID or `all`; empty to test without a GPU.

    Raises:
        UserError: no such image or variant, or no GPU where one is requested.
    """
    default = variant or (DEFAULT_VARIANT if gpu else _WITHOUT_GPU)
    loaded = load(default)
    reference = reference or resolve(loaded).tags[0]
    image = get_image(client, reference, default)
    labelled = image.labels.get(VARIANT_LABEL, default)
    if not variant and labelled in loaded.config.variants:
        loaded = load(labelled)
    if gpu:
        if loaded.config.build.accelerator != "cuda":
            raise UserError(
                "this variant draws on the processor",
                location=loaded.variant,
                hint=f"test it with: nox -s smoke -- --variant {loaded.variant}",
            )
        require_gpu(client, image.id, gpu, loaded.variant)
    subject = SubjectRecord(
        image=reference,
        image_id=image.id,
        variant=loaded.variant,
        digests=tuple(image.attrs.get("RepoDigests") or ()),
        labels=image.labels,
        build_id=image.labels.get(BUILD_ID_LABEL) or "",
    )
    return Target(loaded, subject, image)
