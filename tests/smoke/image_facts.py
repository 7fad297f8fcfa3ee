"""Facts about an image and the engine's machine for the report, besides its checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from scripts.common.checks.smoke_report import HostRecord
from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import TorchFacts, dotted, parse_facts
from scripts.common.gpu.judge import cudnn_version
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

if TYPE_CHECKING:
    import docker

# Commit of the WebUI, version of its Python, then the probe's facts about torch: a line each.
_COMMAND: Final = (
    "cat /stable-diffusion-webui/.commit; /opt/webui/bin/python --version;"
    " exec /opt/webui/bin/python /opt/worker/scripts/common/gpu/torch_probe.py"
)


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image; those that could not be read are empty.

    Args:
        commit: of the WebUI.
        python: version of the WebUI's Python.
        torch: see TorchFacts.
    """

    commit: str = ""
    python: str = ""
    torch: TorchFacts = field(default_factory=TorchFacts)

    def versions(self, release: str) -> dict[str, str]:
        """Return the known versions, by name, in the order of a report."""
        named = {
            "A1111": f"{release} ({self.commit[:7]})" if self.commit else release,
            "torch": self.torch.version,
            "CUDA": self.torch.cuda,
            "cuDNN": dotted(cudnn_version(self.torch.cudnn)),
            "xformers": self.torch.xformers,
            "Python": self.python,
        }
        return {name: value for name, value in named.items() if value}


def ask_image(client: docker.DockerClient, image_id: str) -> ImageFacts:
    """Read the facts in a container without a network."""
    try:
        with docker_errors(image_id):
            return parse_image_facts(container_output(client, image_id, ["sh", "-c", _COMMAND]))
    except UserError:
        return ImageFacts()  # a check of its own says why


def parse_image_facts(output: str) -> ImageFacts:
    """Parse the output of the command; anything else gives empty facts."""
    try:
        commit, python, *_ = output.splitlines()
        return ImageFacts(commit, python.removeprefix("Python "), parse_facts(output))
    except ValueError:
        return ImageFacts()


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
