"""Stream an image's layers from the engine and read them as trees.

Where layers are folders of an overlay file system, a container that is never started mounts them,
and the engine sends them one by one: only those above the base, and nothing is decompressed. Other
engines send the whole image (`docker save`, in Docker's or OCI's layout), from which the base's
layers are left out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, cast

import docker
from docker.models.containers import Container
from docker.models.images import Image

from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.host.console import Throttle, note
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import NO_ENTRYPOINT, container_output, run_container
from scripts.host.inspect.layer_tree import (
    READ_ERRORS,
    UNREADABLE,
    UNREADABLE_HINT,
    LayerTree,
    overlay,
    read_tree,
    replaced_folder_probes,
    unreadable,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_END: Final = bytes(1024)  # a tar ends with two blocks of zeros
_MOUNTS: Final = "/.layers"
# proc(5), /proc/pid/mountinfo: the fifth field is where it is mounted.
_ROOT_MOUNT: Final = re.compile(r"^(?:\S+ ){4}/ .* - overlay .*\blowerdir=([^,\s]+)", re.MULTILINE)


class ExportProgress:
    """Reports bytes read every ten seconds, once reading takes longer than two."""

    def __init__(self) -> None:
        self._read = 0
        self._throttle = Throttle(10.0, first=2.0)

    def add(self, count: int) -> None:
        """Count more bytes."""
        self._read += count
        if self._throttle.is_due():
            note(f"reading the image's layers: {size(self._read)} so far")


class ChunkStream(io.RawIOBase):
    """Chunks of bytes as a file; keeps its last bytes, and its hash where `sha256` is set."""

    def __init__(self, chunks: Iterable[bytes], progress: ExportProgress | None = None) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._progress = progress
        self.sha256: Any = None
        self.tail = b""

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read from at most one chunk; 0 at the end."""
        if not self._rest:
            chunk = next(self._chunks, b"")
            if self.sha256:
                self.sha256.update(chunk)
            self.tail = (self.tail + chunk[-len(_END) :])[-len(_END) :]
            self._rest = memoryview(chunk)
            if self._progress:
                self._progress.add(len(chunk))
        space = memoryview(buffer)
        count = min(len(space), len(self._rest))
        space[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def read_layer(self) -> LayerTree:
        """Read a layer's tar, and what follows it up to the end."""
        tree = read_tree(cast(IO[bytes], self))
        while self.read(CHUNK):
            pass
        return tree


def export_trees(client: docker.DockerClient, image: Image, count: int) -> list[LayerTree]:
    """Read the topmost layers of an image, lowest first.

    Args:
        client: the engine.
        image: the SDK's image.
        count: number of layers.

    Raises:
        UserError: the engine does not send them whole.
    """
    diff_ids = image.attrs["RootFS"].get("Layers") or []
    with docker_errors(image.id, message=UNREADABLE, hint=UNREADABLE_HINT):
        folders = _layer_folders(client, image, len(diff_ids))
        if folders:
            return _read_mounted(client, image, folders[len(folders) - count :])
        split = len(diff_ids) - count
        chunks = image.save(chunk_size=CHUNK)
        return read_saved_trees(chunks, diff_ids[split:], skipped=diff_ids[:split])


def read_saved_trees(
    chunks: Iterable[bytes], diff_ids: Sequence[str], skipped: Sequence[str] = ()
) -> list[LayerTree]:
    """Read layers from the tar that `docker save` makes.

    Args:
        chunks: the tar.
        diff_ids: of the layers to return, in that order.
        skipped: diff IDs of layers to leave unread, where the tar names them so.

    Raises:
        UserError: the tar ends before all of them came.
    """
    skipped_names = {f"blobs/sha256/{diff_id.partition(':')[2]}" for diff_id in skipped}
    trees: dict[str, LayerTree] = {}
    stream = ChunkStream(chunks, ExportProgress())
    try:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                blob = archive.extractfile(member) if member.isfile() else None
                if blob and member.name not in skipped_names and (layer := _open_layer(blob)):
                    layer.sha256 = hashlib.sha256()
                    tree = layer.read_layer()
                    trees[f"sha256:{layer.sha256.hexdigest()}"] = tree
    except READ_ERRORS as error:
        raise unreadable(str(error)) from None
    missing = [diff_id for diff_id in diff_ids if diff_id not in trees]
    if missing:
        raise unreadable(f"{len(missing)} of {len(diff_ids)} did not come")
    return [trees[diff_id] for diff_id in diff_ids]


def _layer_folders(client: docker.DockerClient, image: Image, count: int) -> list[str]:
    """Return the layers' folders, lowest first; none where they cannot be mounted.

    Docker's own store says where they are. Of containerd's, a container knows what it is mounted
    from (https://docs.kernel.org/filesystems/overlayfs.html): its own layer for `/etc/hosts` and
    the like, then the image's, topmost first.
    """
    driver = image.attrs.get("GraphDriver") or {}
    if client.info().get("OperatingSystem") == "Docker Desktop":  # mounts its host's folders
        return []
    if driver.get("Name") == "overlay2":
        lower = driver["Data"].get("LowerDir", "")
        return [*reversed(lower.split(":") if lower else []), driver["Data"]["UpperDir"]]
    try:
        mounts = container_output(client, image.id, ["cat", "/proc/self/mountinfo"], user="root")
    except docker.errors.DockerException:  # an image without programs
        return []
    found = _ROOT_MOUNT.search(mounts)
    folders = found[1].split(":")[:0:-1] if found else []
    return folders if len(folders) == count and all(map(os.path.isabs, folders)) else []


def _read_mounted(
    client: docker.DockerClient, image: Image, folders: Sequence[str]
) -> list[LayerTree]:
    mounts = {f"{_MOUNTS}/{index}": folder for index, folder in enumerate(folders)}
    volumes = {folder: {"bind": mount, "mode": "ro"} for mount, folder in mounts.items()}
    progress = ExportProgress()
    with run_container(
        client,
        image.id,
        ["-"],
        start=False,
        entrypoint=NO_ENTRYPOINT,
        network_mode="none",
        volumes=volumes,
    ) as container:
        trees = [_read_folder(container, mount, progress) for mount in mounts]
        probes = replaced_folder_probes(trees, overlay(trees).shown)
        for (layer, folder), path in probes.items():
            if not _has_path(container, path):
                trees[layer].opaque.add(folder)
    return trees


def _read_folder(container: Container, mount: str, progress: ExportProgress) -> LayerTree:
    chunks, _ = container.get_archive(f"{mount}/.", chunk_size=CHUNK)
    stream = ChunkStream(chunks, progress)
    tree = stream.read_layer()
    if stream.tail != _END:
        raise unreadable("the engine stopped in the middle")
    return tree


def _has_path(container: Container, path: str) -> bool:
    with suppress(docker.errors.NotFound):
        chunks, _ = container.get_archive(path.encode("utf-8", "surrogateescape"))
        chunks.close()
        return True
    return False


def _open_layer(blob: IO[bytes]) -> ChunkStream | None:
    """Open a blob of a saved image as a layer's tar; None when it is JSON.

    Raises:
        UserError: it is compressed in a way that this Python cannot read.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, blob), CHUNK)
    head = buffered.peek(512)[:512]
    if head.startswith(_ZSTD):
        raise UserError(
            "a layer is compressed with zstd, which cannot be read here",
            hint="build it with push.compression: gzip, or inspect it on a Linux engine",
        )
    if head.startswith(_GZIP):
        return ChunkStream(iter(partial(gzip.GzipFile(fileobj=buffered).read, CHUNK), b""))
    is_tar = head[257:262] == b"ustar" or (head and not any(head))
    return ChunkStream(iter(partial(buffered.read, CHUNK), b"")) if is_tar else None
