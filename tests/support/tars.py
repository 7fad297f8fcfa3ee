"""Layers and saved images as tar streams, in the layouts that engines send."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence

from scripts.host.inspect.layer_tree import LayerTree, read_tree


def folder(path: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    """A folder's entry."""
    member = tarfile.TarInfo(path)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member, b""


def file(path: str, content: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    """A file's entry."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(content), mode
    return member, content


def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link's entry."""
    member = tarfile.TarInfo(path)
    member.type, member.linkname = tarfile.LNKTYPE, target
    return member, b""


def whiteout_device(path: str) -> tuple[tarfile.TarInfo, bytes]:
    """A deletion as overlay file systems keep it on disk."""
    member = tarfile.TarInfo(path)
    member.type = tarfile.CHRTYPE
    return member, b""


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """The tar of one layer."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> LayerTree:
    """The tree of one layer."""
    return read_tree(io.BytesIO(tar(*members)))


def diff_id(content: bytes) -> str:
    """The ID of a layer in an image's config."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def saved(layers: Sequence[bytes], layout: str) -> bytes:
    """The output of `docker save`: `new` (Docker 25 and later), `old`, or `gzip` (containerd).

    The manifest comes last, as it does there.
    """
    blobs = [gzip.compress(content) if layout == "gzip" else content for content in layers]
    if layout == "old":
        named = [file(f"{number}/layer.tar", blob) for number, blob in enumerate(blobs)]
    else:
        named = [file(f"blobs/sha256/{diff_id(blob)[7:]}", blob) for blob in blobs]
    config = json.dumps({"rootfs": {"diff_ids": [diff_id(one) for one in layers]}}).encode()
    return tar(*named, file("config.json", config), file("manifest.json", b"[]"))


def chunks(content: bytes, size: int = 700) -> Iterator[bytes]:
    """The bytes in pieces that end anywhere, as a network brings them."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
