"""Write files as torch.save does, without torch: as a zip archive, or in the form before 1.6."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = 0x1950A86A20F9469CFC6C
"""First object of the form before torch 1.6 (`torch/serialization.py`)."""

NEWER_MEMBERS: Final = ("byteorder", ".data/serialization_id")
"""Members of an archive that newer torch adds."""


@dataclass(frozen=True)
class Global:
    """Something that the pickle imports by name; with arguments, something that it calls."""

    module: str
    name: str
    arguments: tuple[Any, ...] | None = None
    state: Any = None


@dataclass(frozen=True)
class Storage:
    """Data of a tensor, which a pickle refers to by its key."""

    type: str = "FloatStorage"


def tensor(*shape: int, type: str = "FloatStorage") -> Global:
    """Return a tensor as torch pickles it."""
    size: tuple[Any, ...] = (Storage(type), 0, shape, (1,) * len(shape), False, OrderedDict())
    return Global("torch._utils", "_rebuild_tensor_v2", size)


def pickled(obj: object) -> bytes:
    """Return a pickle of protocol 2, as torch writes it."""
    return pickle.PROTO + b"\x02" + _encode(obj) + pickle.STOP


def _encode(obj: object) -> bytes:
    if isinstance(obj, Storage):
        location = ("storage", Global("torch", obj.type), "0", "cpu", 1)
        return _encode(location) + pickle.BINPERSID
    if isinstance(obj, Global):
        done = pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode()
        if obj.arguments is not None:
            done += _encode(obj.arguments) + pickle.REDUCE
        return done if obj.state is None else done + _encode(obj.state) + pickle.BUILD
    if isinstance(obj, tuple):
        return pickle.MARK + b"".join(map(_encode, obj)) + pickle.TUPLE
    if isinstance(obj, list):
        items = b"".join(map(_encode, obj))
        return pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
    if isinstance(obj, dict):
        empty = pickle.EMPTY_DICT
        if isinstance(obj, OrderedDict):
            empty = _encode(Global("collections", "OrderedDict", ()))
        pairs = b"".join(_encode(key) + _encode(value) for key, value in obj.items())
        return empty + pickle.MARK + pairs + pickle.SETITEMS
    return pickle.dumps(obj, 2)[2:-1]  # a constant, without PROTO and STOP


def torch_zip(obj: object, *, members: Iterable[str] = ("version", "data/0")) -> bytes:
    """Return a file of torch.save.

    Args:
        obj: what is saved.
        members: names of the files beside data.pkl, without the archive's folder.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(obj))
        for member in members:
            archive.writestr(f"archive/{member}", b"\0" * 4)
    return buffer.getvalue()


def torch_legacy(obj: object, *, data: bytes = bytes(64)) -> bytes:
    """Return a file of torch.save before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True}
    return b"".join(map(pickled, (MAGIC, 1001, system, obj, ["0"]))) + data
