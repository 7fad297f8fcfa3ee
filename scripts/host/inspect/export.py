"""Brings the layers of an image from the engine, each as a stream, and reads them to trees.

With the overlay2 driver a container that is never started has the layers' folders mounted, and the
engine sends them one by one: only those above the base. Other engines send the whole image
(`docker save`, in Docker's or OCI's layout), from which the base's layers are left out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, cast

from scripts.common.diagnostics.error import UserError
from scripts.host.console import note, size
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import run_container
from scripts.host.inspect.layer import TRY_AGAIN, UNREADABLE, Tree, broken, entries, tree
from scripts.host.inspect.overlay import doubtful, settle

if TYPE_CHECKING:
    import docker
    from _typeshed import WriteableBuffer
    from docker.models.containers import Container

CHUNK: Final = 1 << 20
QUIET_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 10.0
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_END: Final = bytes(1024)  # a tar ends with two blocks of zeros
_MOUNTS: Final = "/.layers"


class Progress:
    """Says now and then how much was read, once it takes longer than two seconds."""

    def __init__(self) -> None:
        self.read = 0
        self.next = time.monotonic() + QUIET_SECONDS

    def feed(self, count: int) -> None:
        """Count some more bytes."""
        self.read += count
        if time.monotonic() > self.next:
            self.next = time.monotonic() + PAUSE_SECONDS
            note(f"reading the image's layers: {size(self.read)} so far")


class Chunks(io.RawIOBase):
    """Chunks of bytes as a stream that knows its end, and hashes itself where `sha256` is set."""

    def __init__(self, chunks: Iterable[bytes], progress: Progress | None = None) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._progress = progress
        self.sha256: Any = None
        self.tail = b""

    def readable(self) -> bool:
        """As streams say it."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As streams do it."""
        if not self._rest:
            chunk = next(self._chunks, b"")
            if self.sha256:
                self.sha256.update(chunk)
            self.tail = (self.tail + chunk[-len(_END) :])[-len(_END) :]
            self._rest = memoryview(chunk)
            if self._progress:
                self._progress.feed(len(chunk))
        space = memoryview(buffer)
        count = min(len(space), len(self._rest))
        space[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def drain(self) -> None:
        """Read what is left."""
        while self.read(CHUNK):
            pass


def trees_of(client: docker.DockerClient, image: Any, count: int) -> list[Tree]:  # noqa: ANN401 - untyped SDK
    """Read the topmost layers of an image, lowest first.

    Args:
        client: the engine.
        image: the SDK's image.
        count: how many.

    Raises:
        UserError: the engine does not send them whole.
    """
    diff_ids = image.attrs["RootFS"].get("Layers") or []
    with docker_errors(image.id, message=UNREADABLE, hint=TRY_AGAIN):
        folders = _folders(client, image)
        if folders:
            return _mounted(client, image, folders[len(folders) - count :])
        base, wanted = diff_ids[: len(diff_ids) - count], diff_ids[len(diff_ids) - count :]
        return saved_trees(image.save(chunk_size=CHUNK), wanted, skipped=base)


def _folders(client: docker.DockerClient, image: Any) -> list[str]:  # noqa: ANN401 - untyped SDK
    """The overlay2 driver's folders, lowest first; none where they cannot be mounted."""
    driver = image.attrs.get("GraphDriver") or {}
    desktop = client.info().get("OperatingSystem") == "Docker Desktop"  # mounts its host's folders
    if driver.get("Name") != "overlay2" or desktop:
        return []
    lower = driver["Data"].get("LowerDir", "")
    return [*reversed(lower.split(":") if lower else []), driver["Data"]["UpperDir"]]


def _mounted(client: docker.DockerClient, image: Any, folders: Sequence[str]) -> list[Tree]:  # noqa: ANN401 - untyped SDK
    places = {f"{_MOUNTS}/{index}": folder for index, folder in enumerate(folders)}
    volumes = {folder: {"bind": place, "mode": "ro"} for place, folder in places.items()}
    progress = Progress()
    with run_container(
        client,
        image.id,
        ["-"],
        start=False,
        entrypoint="",
        network_mode="none",
        volumes=volumes,
    ) as container:
        trees = [_sent(container, place, progress) for place in places]
        for (layer, folder), path in doubtful(trees, settle(trees)).items():
            if not _has(container, path):
                trees[layer].opaque.add(folder)
    return trees


def _sent(container: Container, place: str, progress: Progress) -> Tree:
    sent, _ = container.get_archive(f"{place}/.", chunk_size=CHUNK)
    stream = Chunks(sent, progress)
    made = tree(entries(cast(IO[bytes], stream)))
    stream.drain()
    if stream.tail != _END:
        raise broken("the engine stopped in the middle")
    return made


def _has(container: Container, path: str) -> bool:
    """Whether a path shows in a container."""
    import docker

    try:
        sent, _ = container.get_archive(path.encode("utf-8", "surrogateescape"))
        sent.close()
    except docker.errors.NotFound:
        return False
    return True


def saved_trees(
    chunks: Iterable[bytes], wanted: Sequence[str], skipped: Sequence[str] = ()
) -> list[Tree]:
    """The trees of a saved image's layers, in the order of `wanted`.

    Args:
        chunks: of the tar that `docker save` makes.
        wanted: diff IDs of layers, lowest first.
        skipped: diff IDs of layers to leave unread, where the tar names them so.

    Raises:
        UserError: the tar ends before all of them came.
    """
    passed_over = {f"blobs/sha256/{diff_id.partition(':')[2]}" for diff_id in skipped}
    found: dict[str, Tree] = {}
    stream = Chunks(chunks, Progress())
    try:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                blob = archive.extractfile(member) if member.isfile() else None
                if blob and member.name not in passed_over and (layer := _uncompressed(blob)):
                    layer.sha256 = hashlib.sha256()
                    made = tree(entries(cast(IO[bytes], layer)))
                    layer.drain()
                    found[f"sha256:{layer.sha256.hexdigest()}"] = made
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise broken(str(error)) from None
    missing = [diff_id for diff_id in wanted if diff_id not in found]
    if missing:
        raise broken(f"{len(missing)} of {len(wanted)} did not come")
    return [found[diff_id] for diff_id in wanted]


def _uncompressed(blob: IO[bytes]) -> Chunks | None:
    """A blob's tar; None when it is not a layer but JSON.

    Raises:
        UserError: it is compressed in a way that this Python cannot read.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, blob), CHUNK)
    head = buffered.peek(512)[:512]
    if head.startswith(_ZSTD):
        raise UserError(
            "a layer is compressed with zstd, which cannot be read here",
            hint="build it with compression=gzip, or look into it on an engine with overlay2",
        )
    if head.startswith(_GZIP):
        return Chunks(_pieces(cast(IO[bytes], gzip.GzipFile(fileobj=buffered))))
    is_tar = head[257:262] == b"ustar" or (head and not any(head))
    return Chunks(_pieces(buffered)) if is_tar else None


def _pieces(stream: IO[bytes] | io.BufferedReader) -> Iterator[bytes]:
    while piece := stream.read(CHUNK):
        yield piece
