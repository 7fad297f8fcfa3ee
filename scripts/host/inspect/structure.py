"""Read an image's structure, and check it by rules that `invoke inspect` and smoke tests share."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import docker

from scripts.common.diagnostics.error import UserError
from scripts.common.records import Record
from scripts.common.secrets import redact
from scripts.common.units import size
from scripts.host.config.schema import Smoke
from scripts.host.console import printable
from scripts.host.engine.client import get_image
from scripts.host.inspect.export import export_trees
from scripts.host.inspect.layer_tree import LayerTree, later_covers, overlay
from scripts.host.inspect.packages import Manifest, read_manifest
from scripts.host.inspect.violations import Violation, find_config_secrets
from scripts.host.models.artifacts import Artifact

SHOWN: Final = 5  # violations of one rule
# Stage build_final_image begins with this; all below it is the base image.
_BASE_ENDS: Final = re.compile(r"(?:#\(nop\)\s+)?ENV .*\bROOT=/stable-diffusion-webui\b")
_NO_LAYER: Final = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?:ARG|CMD|ENTRYPOINT|ENV|EXPOSE|HEALTHCHECK|LABEL|MAINTAINER"
    r"|ONBUILD|SHELL|STOPSIGNAL|USER|VOLUME)\b"
)


class ImageLayer(Record):
    """One layer above the base.

    Args:
        size: in bytes.
        models: bytes of it that are models.
        hidden: bytes of it that later layers delete or overwrite.
        instruction: of the Dockerfile, that made it.
    """

    size: int
    models: int
    hidden: int = 0
    instruction: str


class Structure(Record):
    """Layers and labels of an image, and violations in it; sizes in bytes.

    Args:
        image: the reference that was asked for.
        image_id: its ID.
        created: time of its build (RFC 3339).
        size: of all layers.
        base_size: of the base image's layers.
        labels: with secrets redacted.
        layers: those above the base, lowest first.
        found: violations of the rules for layers and config.
        wasted_bytes: bytes that every machine pulls and stores, and no container can read.
    """

    image: str
    image_id: str
    created: str
    size: int
    base_size: int
    labels: dict[str, str]
    layers: tuple[ImageLayer, ...]
    found: tuple[Violation, ...]
    wasted_bytes: int

    @property
    def own_size(self) -> int:
        """Bytes over the base image, models apart."""
        return sum(layer.size - layer.models for layer in self.layers)


class Inspection(Structure):
    """An image's structure, and what is installed in it.

    Args:
        manifest: installed packages, and sizes of folders.
    """

    manifest: Manifest


def inspect_image(
    client: docker.DockerClient, reference: str, models: Sequence[str], variant: str = ""
) -> Inspection:
    """Read an image's structure, and list in a container what is installed in it.

    Args and errors are those of `read_structure`; also fails where the image has no shell.
    """
    structure = read_structure(client, reference, models, variant)
    return Inspection(**dict(structure), manifest=read_manifest(client, structure.image_id))


def read_structure(
    client: docker.DockerClient, reference: str, models: Sequence[str], variant: str = ""
) -> Structure:
    """Read the layers of an image; nothing of it is run.

    Args:
        client: the engine.
        reference: the image.
        models: paths of files that no size budget counts.
        variant: whose build makes the image; empty where it may be any image.

    Raises:
        UserError: there is no such image, or it cannot be read.
    """
    image = get_image(client, reference, variant)
    history = list(reversed(image.history()))
    steps = [" ".join(entry["CreatedBy"].split()) for entry in history]
    begin, instructions = own_steps(steps, len(image.attrs["RootFS"].get("Layers") or ()))
    trees = export_trees(client, image, len(instructions))
    hidden = [0] * len(trees)
    for layer, path in overlay(trees).hidden:
        hidden[layer] += trees[layer].files[path]
    secrets = find_config_secrets(image.attrs["Config"].get("Env") or [], image.labels, steps)
    return Structure(
        image=reference,
        image_id=image.id,
        created=image.attrs.get("Created") or "",
        size=image.attrs["Size"],
        base_size=sum(entry["Size"] for entry in history[:begin]),
        labels={name: redact(value) for name, value in image.labels.items()},
        layers=tuple(
            ImageLayer(
                size=tree.size,
                models=sum(tree.files.get(path, 0) for path in models),
                hidden=hidden_bytes,
                instruction=redact(instruction),
            )
            for tree, hidden_bytes, instruction in zip(trees, hidden, instructions, strict=True)
        ),
        found=locate_violations(trees) + secrets,
        wasted_bytes=sum(hidden),
    )


def own_steps(steps: Sequence[str], layers: int) -> tuple[int, tuple[str, ...]]:
    """Split an image's history into the base's steps and the image's own.

    BuildKit leaves no image of the base behind to compare with, so the history decides.

    Args:
        steps: instructions, the base's first.
        layers: how many there are, the base's included.

    Returns:
        The number of steps that are the base's (0 when the image is not of this Dockerfile), and
        the instructions of the layers above it.
    """
    begin = next((at for at, step in enumerate(steps) if _BASE_ENDS.match(step)), 0)
    made = [step for step in steps[begin:] if not _NO_LAYER.match(step)]
    unknown = [""] * (layers - len(made)) if begin == 0 else []
    own = [*unknown, *made]
    return begin, tuple(own[max(len(own) - layers, 0) :])


def locate_violations(trees: Sequence[LayerTree]) -> tuple[Violation, ...]:
    """Number the violations of all layers; permissions that a later layer corrects are left out."""
    is_covered = later_covers(trees)
    return tuple(
        replace(violation, path=printable(violation.path), layer=index + 1, gone=gone)
        for index, tree in enumerate(trees)
        for violation in tree.violations
        for gone in (is_covered(index, violation.path),)
        if not (gone and violation.code in ("world-writable", "setuid-file"))
    )


def model_paths(artifacts: Iterable[Artifact]) -> tuple[str, ...]:
    """Return the files that no size budget counts: those of the models that are baked in."""
    return tuple(each.model.target for each in artifacts if each.model.layout == "file")


def check_structure(image: Structure, smoke: Smoke) -> dict[str, list[str]]:
    """Check every rule; return what breaks it, one phrase each, by the rule's code."""
    return {
        **{
            code: list_violations(code, image)
            for code in ("secret-in-image", "leftovers", "world-writable", "setuid-file")
        },
        "wasted-bytes": check_wasted_bytes(image, smoke),
        "image-too-large": check_sizes(image, smoke),
    }


def require(code: str, image: Structure, smoke: Smoke) -> None:
    """Check one rule.

    Raises:
        UserError: the image breaks it; the code is the rule's.
    """
    if lines := check_structure(image, smoke)[code]:
        raise UserError("; ".join(lines), location=image.image, code=code)


def list_violations(code: str, image: Structure) -> list[str]:
    """List the violations that have a code."""
    found = [violation for violation in image.found if violation.code == code]
    lines = [
        f"{violation.path} ({violation.what}"
        + (f", layer {violation.layer}" if violation.layer else "")
        + (", deleted later)" if violation.gone else ")")
        for violation in found[:SHOWN]
    ]
    return [*lines, *([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])]


def check_wasted_bytes(image: Structure, smoke: Smoke) -> list[str]:
    """Compare the bytes that later layers hide with their limit, and name the worst layer."""
    limit = smoke.waste_limit
    if limit is None or image.wasted_bytes <= limit:
        return []
    number, worst = max(enumerate(image.layers, 1), key=lambda numbered: numbered[1].hidden)
    return [
        f"later layers hide {size(image.wasted_bytes)}, the limit is {size(limit)}",
        f"most of it in layer {number}, {size(worst.hidden)}: {worst.instruction[:60]}",
    ]


def check_sizes(image: Structure, smoke: Smoke) -> list[str]:
    """Compare image and layers with their limits; base and models are not counted."""
    total, each = smoke.total_size_limit, smoke.layer_size_limit
    lines = []
    if total is not None and image.own_size > total:
        lines.append(f"{size(image.own_size)} over base and models, the limit is {size(total)}")
    lines += [
        f"{size(layer.size - layer.models)} in layer {number}, the limit is {size(each)}: "
        f"{layer.instruction[:60]}"
        for number, layer in enumerate(image.layers, 1)
        if each is not None and layer.size - layer.models > each
    ]
    return lines
