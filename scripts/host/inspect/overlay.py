"""Which layer's files show in the end, and how many bytes lie hidden below others. Pure.

Hidden bytes are pulled and stored by every machine, and nobody can read them in a container.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from scripts.host.inspect.layer import Tree, printable


class Wasted(BaseModel):
    """A file that no container shows: its size in bytes, its layer, and the one that hides it.

    Layers are numbered from 1, the lowest above the base.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    layer: int
    hidden_by: int


@dataclass(frozen=True)
class Settled:
    """Layers laid upon each other: whose each path is, and what hides what does not show.

    Args:
        shown: the layer of each path that a container sees.
        hidden: for a layer and a path of it, the layer that hides it.
    """

    shown: Mapping[str, int]
    hidden: Mapping[tuple[int, str], int]


def settle(trees: Sequence[Tree]) -> Settled:
    """Lay layers upon each other, lowest first."""
    shown: dict[str, int] = {}
    hidden: dict[tuple[int, str], int] = {}
    for index, tree in enumerate(trees):
        covers = _covering(tree)
        for path in [path for path in shown if covers(path)]:
            hidden[shown.pop(path), path] = index
        shown.update(dict.fromkeys(tree.files, index))
    return Settled(shown, hidden)


def overlaid(trees: Sequence[Tree]) -> Callable[[int, str], bool]:
    """Whether a later layer hides a layer's path, or says anew what a folder is."""
    covers = [_covering(tree) for tree in trees]
    return lambda layer, path: any(cover(path) for cover in covers[layer + 1 :])


def _covering(tree: Tree) -> Callable[[str], bool]:
    """Whether a layer hides a path of the layers below it."""
    replaced = tree.removed | tree.files.keys()
    inside: dict[str, bool] = {"": "/" in tree.opaque}

    def inside_hidden(folder: str) -> bool:
        if folder not in inside:
            gone = folder in replaced or folder in tree.opaque
            inside[folder] = gone or inside_hidden(folder.rpartition("/")[0])
        return inside[folder]

    return lambda path: (
        path in replaced or path in tree.folders or inside_hidden(path.rpartition("/")[0])
    )


def wasted(trees: Sequence[Tree], settled: Settled) -> tuple[Wasted, ...]:
    """Files whose bytes are of no use, largest first; one with a link that shows is of use."""
    used = {
        (layer, trees[layer].links[path])
        for path, layer in settled.shown.items()
        if path in trees[layer].links
    }
    found = [
        Wasted(
            path=printable(path), size=trees[layer].files[path], layer=layer + 1, hidden_by=by + 1
        )
        for (layer, path), by in settled.hidden.items()
        if trees[layer].files[path] and (layer, path) not in used
    ]
    return tuple(sorted(found, key=lambda one: (-one.size, one.path, one.layer)))


def doubtful(trees: Sequence[Tree], settled: Settled) -> dict[tuple[int, str], str]:
    """What to ask a container where layers do not tell their opaque folders.

    An upper layer that lists a folder of a lower one either adds to it or replaces it. All that
    one layer has below such a folder, and below no deeper one, shares the answer.

    Returns:
        For the layer that may have replaced a folder, and the folder, each path to ask for: the
        folder is opaque when the container does not have it.
    """
    asked: dict[tuple[int, str], str] = {}
    listing: dict[str, list[int]] = {}
    for index, tree in enumerate(trees):
        for folder in tree.folders:
            listing.setdefault(folder, []).append(index)
    for path, layer in settled.shown.items():
        folder = path.rpartition("/")[0]
        while folder and listing.get(folder, [-1])[-1] <= layer:
            folder = folder.rpartition("/")[0]
        if folder:
            above = next(index for index in listing[folder] if index > layer)
            asked.setdefault((above, folder), path)
    return asked
