"""Find out whether the weights that a job needs are there, where A1111 would look for them.

A1111 lists upscalers, face restorers and interrogators whose weights it would fetch at their first
use. Where that fails it answers with an image from which they are missing. Places as in its source,
v1.9.3 and v1.10.1 alike; the table of weights knows the files.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from scripts.common.models.kinds import MOVING_FLAGS
from scripts.common.models.weights import AuxiliaryWeight, Use, features_for, weights_for
from scripts.container.settings import Settings

_ANY_FILE: Final = {
    "gfpgan": "*GFPGAN*.pth",  # gfpgan_model.py:38
    "codeformer": "*.pth",  # codeformer_model.py:29
    "blip-caption": "*.pth",  # interrogate.py:95
    "deepdanbooru": "*.pt",  # deepbooru.py:20
}
"""Patterns of files, by rows of the table, of which A1111 takes the first whatever its name."""

_OTHER_NAMES: Final = {
    # With an empty folder at start A1111 lists its own download, under whose name alone it looks.
    "swinir-4x": ("SwinIR_4x.pth",),  # swinir_model.py:75
    "scunet-gan": ("ScuNET.pth",),  # scunet_model.py:66
    "scunet-psnr": (),  # would load the weights of ScuNET GAN
    "ldsr-model": ("model.ckpt", "model.safetensors"),  # ldsr_model.py:33
}
"""Names below the folder of its family for which A1111 looks, where they are not the table's."""

_VERIFIED: Final = ("clip-vit-l-14",)
"""Rows whose file must be the table's own: A1111 would fetch it in place of any other (`_download`
of the `clip` package). Sizes are compared here, since a SHA-256 takes seconds."""


@dataclass(frozen=True)
class MissingWeights:
    """Weights that are not there, or others in their place.

    Args:
        files: where A1111 would look for each.
        hint: the next step.
    """

    files: tuple[Path, ...]
    hint: str


@dataclass(frozen=True)
class WeightPlaces:
    """Folders in which A1111 looks for weights.

    Args:
        data_dir: its data folder.
        webui_dir: folder of its program.
        moved: folders of families that flags move, by family.
    """

    data_dir: Path
    webui_dir: Path
    moved: Mapping[str, Path]

    @classmethod
    def of(cls, settings: Settings) -> "WeightPlaces":
        """Return the folders of this worker's WebUI."""
        moved = {}
        for argument, following in pairwise((*settings.further_flags, "")):
            flag, _, value = argument.partition("=")
            _, family = MOVING_FLAGS.get(flag, ("", ""))
            if family:
                moved[family] = settings.webui_dir / (value or following)
        return cls(settings.data_dir, settings.webui_dir, moved)

    def find_missing(self, use: Use, name: str, row: Mapping[str, Any]) -> MissingWeights | None:
        """Return the weights that A1111 lacks for something; None when all are there.

        Args:
            use: what it is.
            name: its name in A1111.
            row: of an upscaler, its row of /sdapi/v1/upscalers; else empty.
        """
        if (listed := str(row.get("model_path") or "")).startswith("/"):
            hint = f"put the file of {name!r} back where it was when the WebUI started"
            return None if Path(listed).is_file() else MissingWeights((Path(listed),), hint)
        files = [self._find_file(weight, use) for weight in weights_for(use, name)]
        missing = tuple(path for path, is_there in files if not is_there)
        if not missing:
            return None
        if replaced := [path for path in missing if path.is_file()]:
            hint = f"put the original in place of {replaced[0].name}: the WebUI takes no other file"
            return MissingWeights(missing, hint)
        line = f"features: [{', '.join(features_for(use, name))}]"
        return MissingWeights(missing, f"add to config.yaml: {line}; then build the image again")

    def _find_file(self, weight: AuxiliaryWeight, use: Use) -> tuple[Path, bool]:
        """Return where a file belongs, and whether it is there or one that does as well."""
        if weight.is_hub_cache:
            cache = Path(os.environ.get("HF_HOME", Path(weight.path).parent), "hub")
            folder = cache / f"models--{weight.hub.replace('/', '--')}"
            return folder / weight.file, any(folder.glob(f"snapshots/*/{weight.file}"))
        if weight.data_path is None:
            place = self.webui_dir.joinpath(*Path(weight.path).parts[2:])
            return place, place.is_file()
        folder = self.moved.get(weight.family, self.data_dir / weight.data_path.parent)
        names = [_ANY_FILE.get(weight.name, weight.data_path.name)]
        if use == "upscaler":
            names = list(_OTHER_NAMES.get(weight.name, names))
        if weight.name in _VERIFIED:
            place = folder / weight.data_path.name
            return place, place.is_file() and place.stat().st_size == weight.size
        return folder / weight.data_path.name, any(any(folder.rglob(name)) for name in names)
