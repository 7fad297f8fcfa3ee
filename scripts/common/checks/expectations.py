"""Define the expectations of the smoke test; the build writes them to the variable IMAGE_SMOKE."""

from __future__ import annotations

from scripts.common.checks.model_checks import BakedModel
from scripts.common.records import Record


class Expectations(Record):
    """Expectations of one image.

    Args:
        variant: name of the variant.
        release: tag of the WebUI; empty where it is not known.
        targets: compute capabilities that torch must carry code for, such as 8.9.
        ready_timeout: seconds until the worker must have drawn.
        stop_timeout: seconds that a stop may take.
        image_size: edge of test images, pixels.
        steps: sampling steps of test images.
        models: baked into the image.
        checkpoint: path of the one that is chosen at start; empty where none is baked in.
    """

    variant: str = ""
    release: str = ""
    targets: tuple[str, ...] = ()
    ready_timeout: float = 600
    stop_timeout: float = 30
    image_size: int = 64
    steps: int = 1
    models: tuple[BakedModel, ...] = ()
    checkpoint: str = "/model.safetensors"

    @property
    def checkpoint_name(self) -> str:
        """Name of that checkpoint in the WebUI; empty where it is not known."""
        return next((each.name for each in self.models if each.path == self.checkpoint), "")
