"""Read one layer's tar as a tree of paths, and lay trees upon each other.

A tar is read once, as a stream; names and sizes are kept, contents are not.
https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

import tarfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Final

from scripts.common.diagnostics.error import UserError
from scripts.host.inspect.violations import TEXT_LIMIT, Violation, find_violations

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
UNREADABLE: Final = "a layer cannot be read to its end"
UNREADABLE_HINT: Final = "try again; if it fails again, build or pull the image again"
READ_ERRORS: Final = (tarfile.TarError, EOFError, OSError, zlib.error)
_BINARY_HEAD: Final = 1024


@dataclass
class LayerTree:
    """Changes that one layer makes to the layers below it.

    Attributes:
        files: sizes in bytes of what it writes, by path; of links and devices 0.
        links: targets of hard links to a file of the same layer, by path of the link.
        folders: folders that it lists; files of lower layers may still show in them.
        removed: paths of lower layers that it deletes.
        opaque: folders in which nothing of lower layers shows; the root is empty.
        violations: what must not be in it, each once, in order.
    """

    files: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    violations: dict[Violation, None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Overlay:
    """Layers laid upon each other, by index from the lowest.

    Args:
        shown: the layer of each path that a container sees.
        hidden: layer and path of each file that no container can read.
    """

    shown: Mapping[str, int]
    hidden: tuple[tuple[int, str], ...]


def read_tree(stream: IO[bytes]) -> LayerTree:
    """Read a layer's tar from start to end.

    Raises:
        UserError: it is not a tar, or ends too early.
    """
    tree = LayerTree()
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                _add(tree, member, archive)
                archive.members.clear()  # type: ignore[attr-defined]  # the archive keeps each one else
    except READ_ERRORS as error:
        raise unreadable(str(error)) from None
    return tree


def unreadable(reason: str) -> UserError:
    """Return the error for a layer that cannot be read to its end."""
    return UserError(f"{UNREADABLE}: {reason}", hint=UNREADABLE_HINT)


def overlay(trees: Sequence[LayerTree]) -> Overlay:
    """Lay layers upon each other, lowest first.

    A file is not hidden while a hard link to it, of the same layer, shows.
    """
    shown: dict[str, int] = {}
    covered: list[tuple[int, str]] = []
    for index, tree in enumerate(trees):
        covers = _covering(tree)
        for path in [path for path in shown if covers(path)]:
            covered.append((shown.pop(path), path))
        shown.update(dict.fromkeys(tree.files, index))
    linked = {
        (layer, trees[layer].links[path])
        for path, layer in shown.items()
        if path in trees[layer].links
    }
    return Overlay(shown, tuple(each for each in covered if each not in linked))


def later_covers(trees: Sequence[LayerTree]) -> Callable[[int, str], bool]:
    """Return a predicate of layer and path: whether a later layer hides or redefines the path."""
    covers = [_covering(tree) for tree in trees]
    return lambda layer, path: any(cover(path) for cover in covers[layer + 1 :])


def replaced_folder_probes(
    trees: Sequence[LayerTree], shown: Mapping[str, int]
) -> dict[tuple[int, str], str]:
    """Choose the paths that show which folders are opaque, for layers that do not say so.

    An upper layer that lists a folder of a lower one either adds to it or replaces it. What one
    lower layer has below such a folder, and below no deeper one, shows or is hidden together.

    Args:
        trees: the layers, lowest first.
        shown: of their overlay, as if no folder was opaque.

    Returns:
        By layer and folder that it may replace, a path: the folder is opaque when a container does
        not have that path.
    """
    listing: dict[str, list[int]] = {}
    for index, tree in enumerate(trees):
        for folder in tree.folders:
            listing.setdefault(folder, []).append(index)
    probes: dict[tuple[int, str], str] = {}
    for path, layer in shown.items():
        folder = path.rpartition("/")[0]
        while folder and listing.get(folder, [-1])[-1] <= layer:
            folder = folder.rpartition("/")[0]
        if folder:
            above = next(index for index in listing[folder] if index > layer)
            probes.setdefault((above, folder), path)
    return probes


def _covering(tree: LayerTree) -> Callable[[str], bool]:
    """Return a predicate: whether a layer hides or redefines a path of the layers below it."""
    listed = tree.removed | tree.files.keys() | tree.folders
    hiding = tree.removed | tree.files.keys() | tree.opaque

    @cache
    def is_hidden_below(folder: str) -> bool:
        return folder in hiding or (folder != "" and is_hidden_below(folder.rpartition("/")[0]))

    return lambda path: path in listed or is_hidden_below(path.rpartition("/")[0])


def _add(tree: LayerTree, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    """Add one member of a layer's tar to its tree."""
    path = _absolute(member.name)
    folder, _, name = path.rpartition("/")
    if _is_whiteout_device(member, tree.removed):
        tree.removed.add(path)
    elif name == OPAQUE:
        tree.opaque.add(folder)
    elif name.startswith(WHITEOUT):
        tree.removed.add(f"{folder}/{name.removeprefix(WHITEOUT)}")
    else:
        if member.isdir():
            tree.folders.add(path)
        else:
            tree.files[path] = member.size if member.isfile() else 0
        if member.islnk():
            tree.links[path] = _absolute(member.linkname)
        violations = find_violations(path, member, _text(archive, member))
        tree.violations.update(dict.fromkeys(violations))


def _is_whiteout_device(member: tarfile.TarInfo, removed: Collection[str]) -> bool:
    """Return whether a member is a deletion as overlay file systems keep it on disk.

    That is a device 0/0, or a link to one: Linux makes one device and links it.
    https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories
    """
    if member.islnk():
        return _absolute(member.linkname) in removed
    return member.ischr() and (member.devmajor, member.devminor) == (0, 0)


def _absolute(name: str) -> str:
    """Return a member's path from the root: `./etc`, `etc/` and `/etc` are the same."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a small text file, and nothing for any other file."""
    if not member.isfile() or not 0 < member.size <= TEXT_LIMIT:
        return b""
    content = archive.extractfile(member)
    read = content.read() if content else b""
    return b"" if b"\0" in read[:_BINARY_HEAD] else read
