"""Locate configured models in the container, and refuse places where the WebUI would not see them.

A model with a kind lies below `/opt/a1111` in the image, or below `/runpod-volume/models` on the
volume; the worker links both into the WebUI's data folder.
"""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from scripts.common.models.kinds import (
    COMPANION_SUFFIXES,
    IMAGE_TREE,
    KINDS,
    Kind,
    choose_family,
    data_path,
    identify,
    image_path,
    volume_path,
)
from scripts.common.models.layouts import Layout, PlacedModel, find_layout, place_model

CHECKPOINT_PATH: Final = "/model.safetensors"
"""Path of the checkpoint that is loaded at start unless MODEL_PATH names another."""

WEBUI_FOLDER: Final = PurePosixPath("/stable-diffusion-webui")

VOLUME_MOUNTS: Final = (PurePosixPath("/runpod-volume"), PurePosixPath("/workspace"))
"""Mount points of RunPod's network volume in a serverless worker, and in a pod."""

# Below the folder of a kind names may hold spaces, which the WebUI shows: `SwinIR 4x.pth`.
_PART: Final = r"[^/\\.\s]([^/\\\r\n\t]*[^/\\\s])?"
PATH_PATTERN: Final = rf"((/(?!\.{{1,2}}(/|$))[^\s/]+)+|{_PART}(/{_PART})*)"
"""An absolute path without `..`, or one relative to the folder of a kind, without hidden names."""

Placement = Literal["image", "volume"]


@dataclass(frozen=True)
class Location:
    """The place of a model.

    Args:
        path: absolute path in the container.
        family: family of its kind; empty for a kind without families, or none.
        name: path below the folder of its kind, as the WebUI names it; empty without a kind, but
            for the checkpoint that is loaded at start.
    """

    path: str
    family: str = ""
    name: str = ""


def locate(kind: Kind | None, family: str, path: str, file: str, placement: Placement) -> Location:
    """Return the place of a model; a model has a kind or a path.

    Args:
        kind: its kind.
        family: as configured; empty for the default one of this file.
        path: as configured: absolute, relative to the folder of the kind, or empty.
        file: file name at the source.
        placement: in the image, or on the volume.
    """
    if kind is None:
        return Location(path)
    name = path or PurePosixPath(file).name
    family = family or choose_family(kind, name)
    if name.startswith("/"):
        placed = _find_model(PurePosixPath(name), placement)
        return Location(name, family, placed.name if placed else PurePosixPath(name).name)
    place = image_path if placement == "image" else volume_path
    return Location(str(place(kind, name, family)), family, name)


def check_kind(kind: Kind, family: str, location: Location, placement: Placement) -> None:
    """Check that the WebUI finds a model of this kind in its place.

    Args:
        kind: its kind.
        family: as configured; empty for the default one.
        location: from `locate`.
        placement: in the image, or on the volume.

    Raises:
        ValueError: there is no such family, the file's name is not one that the WebUI loads as
            this kind, or the place belongs to something else.
    """
    families = KINDS[kind].families
    if family and family not in families:
        known = f"one of: {', '.join(families)}" if families else "this kind has none"
        raise ValueError(f"kind {kind} has no family {family}; {known}")
    if kind != "checkpoint" and location.path == CHECKPOINT_PATH:
        raise ValueError(
            f"{CHECKPOINT_PATH} is the checkpoint's place; kind {kind} needs no `path`"
        )
    if kind == "other":
        return
    name = PurePosixPath(location.name).name
    if not re.fullmatch(_PART, name):
        raise ValueError("the source gives no usable file name; expected `path`: <name>.<suffix>")
    is_companion = name.lower().endswith(COMPANION_SUFFIXES)
    usual = data_path(kind, name, location.family)
    if not is_companion and not _is_of_kind(place_model(usual, "a1111"), kind, location.family):
        suffixes = ", ".join(KINDS[kind].suffixes)
        raise ValueError(
            f"the WebUI does not load {name} as kind {kind}; expected one of {suffixes}"
            " (another name is given by `path`)"
        )
    # The WebUI is told of a checkpoint anywhere by MODEL_PATH.
    if kind == "checkpoint" or is_companion:
        return
    placed = _find_model(PurePosixPath(location.path), placement)
    if not _is_of_kind(placed, kind, location.family):
        raise ValueError(
            f"the WebUI does not look for kind {kind} at {location.path};"
            f" leave `path` out, or write it relative to the folder of the kind"
        )


def check_clashes(places: Iterable[tuple[str, Kind | None, Location, Iterable[str]]]) -> None:
    """Check that no two models take one place, and that the WebUI can tell them apart.

    Args:
        places: name of each model, its kind, its location, and the paths that it fills.

    Raises:
        ValueError: with the names of both models.
    """
    seen: dict[Hashable, str] = {}
    files: dict[PurePosixPath, str] = {}
    for name, kind, location, filled_paths in places:
        for filled in filled_paths:
            if filled in seen:
                raise ValueError(f"models: path used twice: {filled} by {seen[filled]} and {name}")
            seen[filled] = name
            files[PurePosixPath(filled)] = name
        if kind in (None, "other") or location.name.lower().endswith(COMPANION_SUFFIXES):
            continue
        identity = (kind, location.family, identify(kind, location.name))
        if identity in seen:
            raise ValueError(
                f"models: {seen[identity]} and {name} are both {kind} {identity[-1]},"
                " and the WebUI would see only one of them"
            )
        seen[identity] = name
    for path, name in files.items():
        for folder in path.parents:
            if folder in files:
                raise ValueError(f"models: {name} lies below {folder}, the file of {files[folder]}")


def _is_of_kind(placed: PlacedModel | None, kind: Kind, family: str) -> bool:
    return placed is not None and (placed.kind, placed.family) == (kind, family)


def _find_model(path: PurePosixPath, placement: Placement) -> PlacedModel | None:
    """Return the model that the worker takes a file for, by its absolute path.

    The worker searches the same folders (`list_bases` in `scripts.container.paths`). A
    volume may be mounted elsewhere too, where any folder may be its root.
    """
    bases: list[tuple[PurePosixPath, Layout | None]]
    if placement == "image":
        bases = [(IMAGE_TREE, "a1111"), (WEBUI_FOLDER, "a1111")]
    else:
        mounts = [mount for mount in VOLUME_MOUNTS if path.is_relative_to(mount)]
        bases = []
        for root in mounts or path.parents:
            bases += [
                (root, None),
                (root / WEBUI_FOLDER.name, "a1111"),
                (root / "ComfyUI", "comfyui"),
            ]
    for base, layout in bases:
        if not path.is_relative_to(base):
            continue
        below = path.relative_to(base)
        if layout is None:
            layout = find_layout(below.parts[1]) if below.parts[0] == "models" else "a1111"
        if layout and (placed := place_model(below, layout)):
            return placed
    return None
