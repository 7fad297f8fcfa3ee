"""Tell the kind of a model from its place in a folder: three common layouts of such folders.

- `worker`: this project's own, `models/<kind>[/<family>]/<file>`;
- `a1111`: the WebUI's data folder, `models/Lora/<file>` and so on, `embeddings/<file>`;
- `comfyui`: ComfyUI's, `models/loras/<file>` and so on;
- `image`: the WebUI's again, made by the build, so that every file in it counts.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from scripts.common.models.kinds import (
    KINDS,
    VAE_SUFFIXES,
    Kind,
    choose_family,
    data_path,
    has_accepted_suffix,
)

Layout = Literal["worker", "a1111", "comfyui", "image"]


@dataclass(frozen=True)
class PlacedModel:
    """A file that is a model by its name and place.

    Args:
        kind: its kind.
        family: its family; empty for a kind without families.
        name: its path below the folder of its kind and family, as the WebUI names it.
        place: its path in the WebUI's data folder.
    """

    kind: Kind
    family: str
    name: str
    place: PurePosixPath


def _a1111_folders() -> dict[str, tuple[Kind, str]]:
    """Return kind and family by folder of the data folder, without the folder `models` itself."""
    folders: dict[str, tuple[Kind, str]] = {}
    for kind, row in KINDS.items():
        for family in row.families:
            folders[f"{row.folder}/{family}"] = (kind, family)
        if not row.families and kind != "other":
            folders.update(dict.fromkeys((row.folder, *row.further_folders), (kind, "")))
    return folders


A1111_FOLDERS: Final = _a1111_folders()
"""Kind and family by folder of the WebUI's data folder."""

COMFYUI_FOLDERS: Final[dict[str, Kind]] = {
    name: kind for kind, row in KINDS.items() for name in row.comfyui
}
"""Kind by folder of ComfyUI's `models`."""


def find_layout(folder: str) -> Layout | None:
    """Return the layout that has a folder of this name in `models`; the first of several.

    Args:
        folder: its name, such as lora, Lora or loras.
    """
    if folder in KINDS:
        return "worker"
    if f"models/{folder}" in (*A1111_FOLDERS, *KINDS["other"].further_folders):
        return "a1111"
    return "comfyui" if folder in COMFYUI_FOLDERS else None


def place_model(path: PurePosixPath, layout: Layout) -> PlacedModel | None:
    """Return what a file is by its path, None where it is no model.

    Args:
        path: relative to the folder that holds `models`.
        layout: of that folder.
    """
    if layout == "a1111":
        return _place_in_data_folder(path)
    if layout == "image":
        return _place_in_data_folder(path) or PlacedModel("other", "", str(path), path)
    if len(path.parts) < 3 or path.parts[0] != "models":
        return None
    folder, rest = path.parts[1], PurePosixPath(*path.parts[2:])
    kind = COMFYUI_FOLDERS.get(folder)
    if layout == "worker":
        kind = next((each for each in KINDS if each == folder), None)
    if kind is None:
        return None
    if kind == "other":
        return PlacedModel("other", "", str(rest), PurePosixPath("models", rest))
    families = {family.lower(): family for family in KINDS[kind].families}
    family = families.get(rest.parts[0].lower(), "") if len(rest.parts) > 1 else ""
    if family:
        rest = PurePosixPath(*rest.parts[1:])
    family = family or choose_family(kind, rest.name)
    return _place(kind, family, str(rest), data_path(kind, str(rest), family))


def _place_in_data_folder(path: PurePosixPath) -> PlacedModel | None:
    for depth in (1, 2):
        folder = PurePosixPath(*path.parts[:depth])
        if len(path.parts) > depth and str(folder) in A1111_FOLDERS:
            kind, family = A1111_FOLDERS[str(folder)]
            return _place(kind, family, str(path.relative_to(folder)), path)
    return _place_other(path)


def _place(kind: Kind, family: str, name: str, place: PurePosixPath) -> PlacedModel | None:
    lower = name.lower()
    if kind == "checkpoint" and lower.endswith(VAE_SUFFIXES):
        return PlacedModel("vae", "", name, place)  # the WebUI finds it beside its checkpoint
    if not has_accepted_suffix(kind, name):
        return None
    if lower.endswith(".yaml") and family != "LDSR":
        return None  # of the upscalers, only LDSR's consists of weights and a configuration
    return PlacedModel(kind, family, name, place)


def _place_other(path: PurePosixPath) -> PlacedModel | None:
    """Return a file below `models` that belongs to no other kind."""
    if (
        path.parts[0] != "models"
        or len(path.parts) < 2
        or not has_accepted_suffix("other", path.name)
    ):
        return None
    return PlacedModel("other", "", str(path.relative_to("models")), path)
