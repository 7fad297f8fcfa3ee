"""One layer as a tree: what it writes, what it removes from the layers below, and its flaws.

Reads a layer's tar as a stream, once, keeping names and sizes but no contents.
https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

from scripts.common.diagnostics.error import UserError
from scripts.host.inspect.violations import TEXT_LIMIT, Entry, Flaw, Kind, flaws_of

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_BINARY_HEAD: Final = 1024
UNREADABLE: Final = "a layer cannot be read to its end"
TRY_AGAIN: Final = "try again; if it stays, build or pull the image again"


@dataclass
class Tree:
    """What one layer says.

    Attributes:
        files: sizes in bytes of what it writes, by path; of links and devices 0.
        links: hard links to a file of the same layer, by their path.
        folders: that it lists, which may hold more from below.
        removed: paths of lower layers that it deletes.
        opaque: folders of which nothing from below shows.
        flaws: what must not be in it, each once.
    """

    files: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    flaws: dict[Flaw, None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(self.files.values())

    def add(self, entry: Entry) -> None:
        """Take one entry in."""
        folder, _, name = entry.path.rpartition("/")
        if name == OPAQUE:
            self.opaque.add(folder or "/")
        elif name.startswith(WHITEOUT):
            self.removed.add(f"{folder}/{name.removeprefix(WHITEOUT)}")
        elif entry.kind == "folder":
            self.folders.add(entry.path)
        else:
            self.files[entry.path] = entry.size
            if entry.kind == "link":
                self.links[entry.path] = entry.target
        self.flaws.update(dict.fromkeys(flaws_of(entry)))


def tree(entries: Iterable[Entry]) -> Tree:
    """The tree that a layer's entries make."""
    made = Tree()
    for entry in entries:
        made.add(entry)
    return made


def entries(stream: IO[bytes]) -> Iterator[Entry]:
    """The entries of a layer's tar, read once from start to end.

    Raises:
        UserError: it is not a tar, or ends too early.
    """
    devices: set[str] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                if _is_whiteout(member, devices):
                    devices.add(_absolute(member.name))
                    folder, _, name = _absolute(member.name).rpartition("/")
                    yield Entry(f"{folder}/{WHITEOUT}{name}", "other")
                else:
                    yield _entry(archive, member)
                archive.members.clear()  # type: ignore[attr-defined]  # or it keeps each one
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise broken(str(error)) from None


def printable(path: str) -> str:
    """A path as one line of text, whatever bytes its name is made of."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def broken(reason: str) -> UserError:
    """The failure of a layer that cannot be read to its end."""
    return UserError(f"{UNREADABLE}: {reason}", hint=TRY_AGAIN)


def _is_whiteout(member: tarfile.TarInfo, devices: set[str]) -> bool:
    """Whether a member is a deletion as overlay file systems keep it on disk.

    That is a device 0/0, or a link to one: Linux makes one device and links it.
    https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories
    """
    if member.islnk():
        return _absolute(member.linkname) in devices
    return member.ischr() and (member.devmajor, member.devminor) == (0, 0)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    return Entry(
        _absolute(member.name),
        _kind(member),
        size=member.size if member.isfile() else 0,
        mode=member.mode,
        target=_absolute(member.linkname) if member.islnk() else "",
        text=_text(archive, member),
    )


def _absolute(name: str) -> str:
    """A member's name from the root: `./etc`, `etc/` and `/etc` are the same."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.isfile():
        return "file"
    if member.isdir():
        return "folder"
    if member.islnk():
        return "link"
    return "symlink" if member.issym() else "other"


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a small text; nothing of anything else."""
    if not member.isfile() or not 0 < member.size <= TEXT_LIMIT:
        return b""
    content = archive.extractfile(member)
    read = content.read() if content else b""
    return b"" if b"\0" in read[:_BINARY_HEAD] else read
