"""Facts about an image for the report, read by one command in it."""

from dataclasses import dataclass, field
from typing import Final

from scripts.common.gpu.gpu_facts import TorchFacts, dotted, parse_facts
from scripts.common.gpu.judge import cudnn_version

# Commit of the WebUI, version of its Python, then the probe's facts about torch: a line each.
FACTS_COMMAND: Final = (
    "cat /stable-diffusion-webui/.commit; /opt/webui/bin/python --version;"
    " exec /opt/webui/bin/python /opt/worker/scripts/common/gpu/torch_probe.py"
)
"""Shell script whose output `parse_image_facts` takes."""


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


def parse_image_facts(output: str) -> ImageFacts:
    """Parse the output of the command; anything else gives empty facts."""
    try:
        commit, python, *_ = output.splitlines()
        return ImageFacts(commit, python.removeprefix("Python "), parse_facts(output))
    except ValueError:
        return ImageFacts()
