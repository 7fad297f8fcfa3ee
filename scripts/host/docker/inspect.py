"""What an image is made of: its layers, folders and packages, and how two images differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from scripts.common.errors import Failure
from scripts.host.config.load import Loaded
from scripts.host.console import size, table
from scripts.host.docker.report import LayerRecord, layer_records

if TYPE_CHECKING:
    import docker

# du counts 1 kB blocks that are on the disk; -x stays in the image.
_FOLDERS = "du -xk --max-depth=2 / 2>/dev/null | sort -rn | head -20"
_APT = "dpkg-query -W -f '${Package} ${Version}\\n'"
_PIP = (
    "for p in /opt/webui /opt/runpod; do $p/bin/python -c "
    '"import importlib.metadata as m; '
    "print(*(f'{d.name} {d.version}' for d in m.distributions()), sep=chr(10))\"; done"
)


class Inspection(BaseModel):
    """One image; sizes in bytes, layers base first, packages as name and version."""

    model_config = ConfigDict(frozen=True)

    image: str
    image_id: str
    size: int
    base_size: int
    layers: tuple[LayerRecord, ...]
    folders: dict[str, int]
    packages: dict[str, str]

    @property
    def own_size(self) -> int:
        """Bytes over the base image."""
        return self.size - self.base_size


def inspected(client: docker.DockerClient, reference: str, base_layers: int = 0) -> Inspection:
    """Look into an image, without a network.

    Args:
        client: the engine.
        reference: the image.
        base_layers: how many of its layers are the base image's; 0 when that is not known.

    Raises:
        Failure: there is no such image.
    """
    import docker

    try:
        image = client.images.get(reference)
    except docker.errors.ImageNotFound:
        raise Failure("there is no such image", where=reference, cure="run: invoke build") from None
    layers = layer_records(image.history())
    folders, apt, python = (_output(client, image, words) for words in (_FOLDERS, _APT, _PIP))
    return Inspection(
        image=reference,
        image_id=image.id,
        size=image.attrs["Size"],
        base_size=sum(layer.size for layer in layers[:base_layers]),
        layers=layers,
        folders=folder_sizes(folders),
        packages={**packages(apt, "apt"), **packages(python, "python")},
    )


def base_layers(client: docker.DockerClient, loaded: Loaded, reference: str) -> int:
    """How many of an image's non-empty layers are its base's; 0 when the base is not here.

    Raises:
        Failure: there is no such image.
    """
    import docker

    try:
        base = client.images.get(loaded.config.base.runtime)
    except docker.errors.ImageNotFound:
        return 0
    try:
        image = client.images.get(reference)
    except docker.errors.ImageNotFound:
        raise Failure("there is no such image", where=reference, cure="run: invoke build") from None
    below, above = base.attrs["RootFS"]["Layers"], image.attrs["RootFS"]["Layers"]
    return len(layer_records(base.history())) if above[: len(below)] == below else 0


def folder_sizes(text: str) -> dict[str, int]:
    """What `du -k` printed, in bytes by folder."""
    rows = (line.split("\t", 1) for line in text.splitlines())
    return {row[1]: int(row[0]) * 1024 for row in rows}


def packages(text: str, kind: str) -> dict[str, str]:
    """Names and versions, one pair a line, with what manages them before the name."""
    rows = (line.split(" ", 1) for line in text.splitlines() if " " in line)
    return {f"{kind}:{name}": version for name, version in rows}


def over_budget(found: Inspection, loaded: Loaded) -> tuple[str, ...]:
    """What is larger than `smoke.total_size_limit` and `smoke.layer_size_limit` allow."""
    smoke, lines = loaded.config.smoke, []
    if smoke.total_size_limit is not None and found.own_size > smoke.total_size_limit:
        lines.append(
            f"{size(found.own_size)} over the base, allowed are {size(smoke.total_size_limit)}"
        )
    limit = smoke.layer_size_limit
    own = found.layers if not found.base_size else _after(found.layers, found.base_size)
    if limit is not None:
        lines += [
            f"{size(layer.size)} in one layer, allowed are {size(limit)}: {layer.instruction[:60]}"
            for layer in own
            if layer.size > limit
        ]
    return tuple(lines)


def _after(layers: Sequence[LayerRecord], base_size: int) -> tuple[LayerRecord, ...]:
    """The layers above the base."""
    below = 0
    for index, layer in enumerate(layers):
        if below >= base_size:
            return tuple(layers[index:])
        below += layer.size
    return ()


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Packages that came, went or changed: name, version before and after, empty for none."""
    return tuple(
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def shown(found: Inspection) -> str:
    """An inspection for a person."""
    layers = [[size(layer.size), layer.instruction[:90]] for layer in found.layers]
    folders = [[size(count), path] for path, count in found.folders.items()]
    kinds = [name.partition(":")[0] for name in found.packages]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    return "\n\n".join(
        (
            f"{found.image} ({found.image_id[:19]}): {size(found.size)}, packages: {counts}",
            table(["layer", "instruction"], layers, right=[0]),
            table(["folder", "path"], folders, right=[0]),
        )
    )


def shown_difference(old: Inspection, new: Inspection) -> str:
    """What changed from one image to the other, for a person."""
    rows = [
        [name, before or "-", after or "-"]
        for name, before, after in difference(old.packages, new.packages)
    ]
    change = new.size - old.size
    head = f"{'+' if change >= 0 else '-'}{size(abs(change))} against {old.image}"
    return f"{head}\n{table(['package', 'before', 'after'], rows)}" if rows else head


def _output(client: docker.DockerClient, image: Any, words: str) -> str:  # noqa: ANN401 - untyped SDK
    text: bytes = client.containers.run(
        image.id, ["sh", "-c", words], entrypoint="", user="root", remove=True, network_mode="none"
    )
    return text.decode("utf-8", "replace")
