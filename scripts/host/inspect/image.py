"""What an image is made of: its layers, what lies in and below them, and what is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from scripts.host.build.inputs import BuildInputs
from scripts.host.config.load import LoadedConfig
from scripts.host.engine.client import image_of
from scripts.host.inspect.export import trees_of
from scripts.host.inspect.layer import Tree, printable
from scripts.host.inspect.overlay import Wasted, overlaid, settle, wasted
from scripts.host.inspect.packages import Manifest, manifest
from scripts.host.inspect.violations import redacted, secrets_told

if TYPE_CHECKING:
    import docker

WORST: Final = 10
# Stage build_final_image begins with this; all below it is the base image.
_BASE_ENDS: Final = re.compile(r"(?:#\(nop\)\s+)?ENV .*\bROOT=/stable-diffusion-webui\b")
_NO_LAYER: Final = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?:ARG|CMD|ENTRYPOINT|ENV|EXPOSE|HEALTHCHECK|LABEL|MAINTAINER"
    r"|ONBUILD|SHELL|STOPSIGNAL|USER|VOLUME)\b"
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Layer(_Record):
    """One layer above the base: its bytes, how many of them are models, and what made it."""

    size: int
    models: int
    instruction: str


class Found(_Record):
    """Something that must not be there.

    Args:
        code: in `scripts.common.diagnostics.table`.
        path: in the layer, or the name of a variable, label or build step.
        what: was found there.
        layer: its number, 1 for the lowest above the base; 0 for the image's config.
        gone: whether a later layer hides it; its bytes are in the image all the same.
    """

    code: str
    path: str
    what: str
    layer: int
    gone: bool = False


class Structure(_Record):
    """What layers are made of.

    Sizes are in bytes, layers lowest first, `created` as RFC 3339; of wasted files only the worst.
    """

    image: str
    image_id: str
    created: str
    size: int
    base_size: int
    labels: dict[str, str]
    layers: tuple[Layer, ...]
    found: tuple[Found, ...]
    wasted_bytes: int
    wasted: tuple[Wasted, ...]

    @property
    def own_size(self) -> int:
        """Bytes over the base image, models apart."""
        return sum(layer.size - layer.models for layer in self.layers)


class Inspection(Structure):
    """All that is told of an image: its layers, and what is installed in it."""

    manifest: Manifest


def inspected(
    client: docker.DockerClient, reference: str, models: Sequence[str], variant: str = ""
) -> Inspection:
    """The structure of an image, and what it says of itself in a container; arguments likewise.

    Raises:
        UserError: as `structure`; or the image cannot be asked.
    """
    found = structure(client, reference, models, variant)
    return Inspection(**dict(found), manifest=manifest(client, found.image_id))


def structure(
    client: docker.DockerClient, reference: str, models: Sequence[str], variant: str = ""
) -> Structure:
    """Read the layers of an image; nothing of it is run.

    Args:
        client: the engine.
        reference: the image.
        models: paths of files that no size budget counts.
        variant: whose build makes the image; empty where it may be anybody's.

    Raises:
        UserError: there is no such image, or it cannot be read.
    """
    image = image_of(client, reference, variant)
    history = list(reversed(image.history()))
    steps = [" ".join(entry["CreatedBy"].split()) for entry in history]
    begin, made = own_steps(steps, len(image.attrs["RootFS"].get("Layers") or ()))
    trees = trees_of(client, image, len(made))
    settled = settle(trees)
    waste = wasted(trees, settled)
    told = secrets_told(image.attrs["Config"].get("Env") or [], image.labels, steps)
    return Structure(
        image=reference,
        image_id=image.id,
        created=image.attrs.get("Created") or "",
        size=image.attrs["Size"],
        base_size=sum(entry["Size"] for entry in history[:begin]),
        labels={name: redacted(value) for name, value in image.labels.items()},
        layers=tuple(
            Layer(
                size=tree.size,
                models=sum(tree.files.get(path, 0) for path in models),
                instruction=redacted(step),
            )
            for tree, step in zip(trees, made, strict=True)
        ),
        found=(*found_in(trees), *(_in_config(place) for place in told)),
        wasted_bytes=sum(one.size for one in waste),
        wasted=waste[:WORST],
    )


def own_steps(steps: Sequence[str], layers: int) -> tuple[int, tuple[str, ...]]:
    """Which steps of a history are the image's own, and what made each of its own layers.

    BuildKit leaves no image of the base behind to compare with, so the history must tell.

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


def found_in(trees: Sequence[Tree]) -> tuple[Found, ...]:
    """The flaws of all layers; a permission that a later layer corrects is none."""
    over = overlaid(trees)
    return tuple(
        Found(
            code=flaw.code,
            path=printable(flaw.path),
            what=flaw.what,
            layer=number + 1,
            gone=gone,
        )
        for number, tree in enumerate(trees)
        for flaw in tree.flaws
        for gone in (over(number, flaw.path),)
        if not (gone and flaw.code in ("world-writable", "setuid-file"))
    )


def _in_config(place: str) -> Found:
    return Found(code="secret-in-image", path=place, what="a token or key", layer=0)


def model_paths(loaded: LoadedConfig) -> tuple[str, ...]:
    """Files whose size no budget counts: the models that are baked in."""
    return tuple(
        model.path
        for model in loaded.config.models
        if model.placement == "image" and model.layout == "file"
    )


def known_repositories(inputs: BuildInputs) -> Mapping[str, str]:
    """Where each git commit of the config is from."""
    return {source.commit: source.repo for source in inputs.sources}


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """What came, went or changed: name, value before and after, empty for none."""
    return tuple(
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )
