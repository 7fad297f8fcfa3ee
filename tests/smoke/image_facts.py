"""Facts about an image and the engine's machine for the report, besides its checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.common.checks.image_facts import FACTS_COMMAND, ImageFacts, parse_image_facts
from scripts.common.checks.smoke_report import HostRecord
from scripts.common.diagnostics.error import UserError
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

if TYPE_CHECKING:
    import docker


def ask_image(client: docker.DockerClient, image_id: str) -> ImageFacts:
    """Read the facts in a container without a network."""
    try:
        with docker_errors(image_id):
            return parse_image_facts(
                container_output(client, image_id, ["sh", "-c", FACTS_COMMAND])
            )
    except UserError:
        return ImageFacts()  # a check of its own says why


def describe_host(client: docker.DockerClient) -> HostRecord:
    """Describe the machine that the engine runs on."""
    info = client.info()
    return HostRecord(
        name=info.get("Name", ""),
        system=info.get("OperatingSystem", ""),
        kernel=f"{info.get('KernelVersion', '')} {info.get('Architecture', '')}".strip(),
        processors=info.get("NCPU", 0),
        memory=info.get("MemTotal", 0),
        engine=info.get("ServerVersion", ""),
    )
