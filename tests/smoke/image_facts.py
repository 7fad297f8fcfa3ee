"""What a report tells of machine and image besides its checks: asked at the rim, parsed purely."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from scripts.common.checks.report import Host
from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.device import dotted
from scripts.common.gpu.judge import cudnn_version
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

if TYPE_CHECKING:
    import docker

FACTS: Final = "/opt/worker/scripts/common/gpu/torch_probe.py"
# Commit of the WebUI, version of its Python, then torch's own facts as JSON: a line each.
_ASK: Final = (
    "cat /stable-diffusion-webui/.commit; /opt/webui/bin/python --version;"
    f" exec /opt/webui/bin/python {FACTS}"
)


def host_of(client: docker.DockerClient) -> Host:
    """The machine that the engine runs on."""
    info = client.info()
    return Host(
        name=info.get("Name", ""),
        system=info.get("OperatingSystem", ""),
        kernel=f"{info.get('KernelVersion', '')} {info.get('Architecture', '')}".strip(),
        processors=info.get("NCPU", 0),
        memory=info.get("MemTotal", 0),
        engine=info.get("ServerVersion", ""),
    )


def ask(client: docker.DockerClient, image_id: str) -> dict[str, Any]:
    """The facts of an image, from a container without a network; empty where it tells none."""
    try:
        with docker_errors(image_id):
            return parse(container_output(client, image_id, ["sh", "-c", _ASK]))
    except UserError:
        return {}  # a check of its own says why


def parse(told: str) -> dict[str, Any]:
    """What `ask` was told, as one mapping; empty where it is something else."""
    lines = told.splitlines()
    try:
        facts: dict[str, Any] = json.loads(lines[-1])
        return {"commit": lines[0], "python": lines[1].removeprefix("Python "), **facts}
    except (IndexError, TypeError, ValueError):
        return {}


def versions(facts: dict[str, Any], release: str) -> dict[str, str]:
    """The versions a person asks for, in their order; those that are not known are left out."""
    commit = str(facts.get("commit", ""))[:7]
    named = {
        "A1111": f"{release} ({commit})" if commit else release,
        "torch": facts.get("version", ""),
        "CUDA": facts.get("cuda", ""),
        "cuDNN": dotted(cudnn_version(facts.get("cudnn", 0))),
        "xformers": facts.get("xformers", ""),
        "Python": facts.get("python", ""),
    }
    return {name: value for name, value in named.items() if value}
