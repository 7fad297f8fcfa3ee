"""Check a pickled model (.pt, .pth, .ckpt, .bin) for what it would import, without importing it.

picklescan lists the imports of the file's pickles; each must be on the allow list of what will load
the file. Most kinds are loaded by A1111's `modules/safe.py`, which answers a file that it refuses
with nothing at all (None): the same check is run here, so such a file is refused with the reason.
picklescan rather than fickling: it reads both forms of torch's files without torch, has no
dependency, and lists imports; fickling decompiles a whole pickle to judge it by lists of its own.
"""

from __future__ import annotations

import io
import logging
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

from scripts.common.diagnostics.error import UserError

PickleForm = Literal["pickle", "pickle-newer", "torchscript", "data"]
AllowImport = Callable[[str, str], bool]

_PICKLES: Final = 5  # in a file of torch.save before 1.6 (`safe.py`, `check_pt`)
_MAX_PICKLE: Final = 256 << 20  # bytes of `data.pkl`, which holds no tensor data

# `allowed_zip_names_re` of v1.9.3; v1.10.1 accepts the second, too
_MEMBER: Final = re.compile(r"([^/]+)/((data/\d+)|version|(data\.pkl))")
_NEWER_MEMBER: Final = re.compile(r"([^/]+)/(byteorder|.data/serialization_id)")
_NEWEST_MEMBERS: Final = ("/.format_version", "/.storage_alignment")  # written by torch 2.7.0
_INDEX: Final = re.compile(r"([^/]+)/data\.pkl")
_SCRIPT_MEMBER: Final = re.compile(r"[^/]+/(code/.*|constants\.pkl)")

_STORAGES: Final = ("Float", "Half", "Int", "Long", "Double", "Byte", "BFloat16")
A1111_IMPORTS: Final = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        *(("torch", f"{name}Storage") for name in _STORAGES),
        ("torch", "float32"),
        ("torch.nn.modules.container", "ParameterDict"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("_codecs", "encode"),
        ("pytorch_lightning.callbacks", "model_checkpoint"),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("__builtin__", "set"),
    }
)
"""What `RestrictedUnpickler.find_class` of `modules/safe.py` allows in v1.9.3 and v1.10.1."""

_SPANDREL_IMPORTS: Final = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        *(("torch", f"{name}Storage") for name in _STORAGES if name != "Byte"),
    }
)
"""What spandrel 0.1.6 and 0.3.4, which loads upscalers, allows of them (`unpickler.py`)."""

_ULTRALYTICS: Final = re.compile(
    r"ultralytics\.nn\.(tasks|modules(\.\w+)?)|ultralytics(\.yolo)?\.utils\.(loss|tal)"
    r"|torch\.nn\.modules\.\w+"
)
_NAMESPACE: Final = re.compile(r"ultralytics(\.yolo)?\.utils")
_CLASS_NAME: Final = re.compile(r"(v8)?[A-Z]\w*")
_DETECTOR_IMPORTS: Final = frozenset(
    {
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
    }
)
_BUILTIN_CLASSES: Final = ("set", "dict", "list", "tuple", "slice", "int", "float", "bool", "str")


def _a1111_allows(module: str, name: str) -> bool:
    return (module, name) in A1111_IMPORTS


def _spandrel_allows(module: str, name: str) -> bool:
    return (module, name) in _SPANDREL_IMPORTS


def _ultralytics_allows(module: str, name: str) -> bool:
    """Return whether a detector may import a class; ADetailer turns A1111's own check off."""
    if module in ("__builtin__", "builtins"):
        return name in _BUILTIN_CLASSES
    if module == "torch":
        return bool(re.fullmatch(r"\w+Storage|Size|device|(b?float|u?int)\d+|bool", name))
    if _ULTRALYTICS.fullmatch(module):
        return bool(_CLASS_NAME.fullmatch(name))
    if _NAMESPACE.fullmatch(module):
        return name == "IterableSimpleNamespace"
    return (module, name) in A1111_IMPORTS | _DETECTOR_IMPORTS


@dataclass(frozen=True)
class PickleContent:
    """What a pickle holds, as far as it was looked for.

    Args:
        form: `pickle`; `pickle-newer` for a file of newer torch, which A1111 reads from v1.10
            on; `torchscript`; or `data` for a file without any import.
        keys: keys of the outermost dictionary; None where only imports were looked at.
        shapes: shapes of the tensors in it, or in its `state_dict`, by name.
        embedded: number of tensors in its `string_to_param`; None if it has none.
    """

    form: PickleForm
    keys: frozenset[Any] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    embedded: int | None = None


def scan_pickle(path: Path, name: str, *, kind: str = "", release: str = "") -> PickleContent:
    """Check a pickle's imports, and that the WebUI can read it.

    Args:
        path: the file.
        name: its name at the source.
        kind: its kind of model. For `other` and none, whose loader is unknown, imports that
            picklescan calls dangerous are refused; for the others, all that are not on the list.
        release: A1111 release that will load it; empty if unknown.

    Raises:
        UserError: an import is not allowed, or A1111 would not read the file.
    """
    try:
        if kind in ("", "other"):
            return _scan_any(path)
        return _scan_listed(path, name, kind, release)
    except _RefusedError as error:
        raise UserError(str(error), location=name, code=error.code) from None
    except Exception as error:  # whatever the bytes provoke, the file is not read
        raise UserError(
            f"the pickle cannot be read: {error or type(error).__name__}",
            location=name,
            code="pickle-unreadable",
        ) from None


def reads_newer_zips(release: str) -> bool:
    """Return whether an A1111 release reads `byteorder` and `serialization_id` in a zip file.

    True for an unknown release.
    """
    match = re.fullmatch(r"v?(\d+)\.(\d+)(\..*)?", release)
    return match is None or (int(match[1]), int(match[2])) >= (1, 10)


class _RefusedError(Exception):
    def __init__(self, message: str, code: str = "pickle-unsafe") -> None:
        super().__init__(message)
        self.code = code


def _scan_any(path: Path) -> PickleContent:
    """Scan a file whose loader is unknown with picklescan's own list."""
    scanner = _scanner()
    with path.open("rb") as stream:
        result = scanner.scan_bytes(stream, path.name, ".pt")
    dangerous = [
        (found.module, found.name)
        for found in result.globals
        if found.safety == scanner.SafetyLevel.Dangerous
    ]
    if dangerous:
        raise _RefusedError(
            f"the pickle would import {_named(dangerous)}, which can run any program"
        )
    if result.scan_err:
        raise _RefusedError("the pickle breaks off", "pickle-unreadable")
    with path.open("rb") as stream:
        starts_as_pickle = stream.read(2)[:1] in (b"P", b"\x80")
    if _is_script(path):
        return PickleContent("torchscript")
    return PickleContent("pickle" if result.globals or starts_as_pickle else "data")


def _scan_listed(path: Path, name: str, kind: str, release: str) -> PickleContent:
    """Scan a file with the allow list of its kind, then read it as A1111's `check_pt` does."""
    if _is_script(path):
        if kind == "interrogate" or (kind == "upscaler" and name.lower().endswith(".pt")):
            return _scan_any(path)  # loaded by torch.jit.load: clip/clip.py, spandrel's loader.py
        raise _RefusedError(
            "it is a TorchScript archive, which the WebUI does not read for this kind",
            "pickle-unreadable",
        )
    allows: AllowImport = _a1111_allows
    if kind == "adetailer":
        allows = _ultralytics_allows
    elif kind == "upscaler" and not name.lower().endswith(".ckpt"):  # LDSR's, which torch loads
        allows = _spandrel_allows
    form: PickleForm = "pickle"
    if zipfile.is_zipfile(path):
        _refuse_hidden_zip(path)
        with zipfile.ZipFile(path) as archive:
            if kind != "adetailer":
                form = _check_members(archive.namelist(), release)
            data = _read_index(archive)
        _scan(io.BytesIO(data), name, allows)
        root = _DryRun(io.BytesIO(data), allows).load()
    else:
        with path.open("rb") as stream:
            for _ in range(_PICKLES):
                _scan(stream, name, allows)
            stream.seek(0)
            # torch writes magic number, version, system, the object, keys of the storages
            root = [_DryRun(stream, allows).load() for _ in range(_PICKLES)][3]
    return _describe(root, form)


def _refuse_hidden_zip(path: Path) -> None:
    """Refuse a zip file behind other bytes: A1111 checks the zip file, torch loads those bytes."""
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            raise _RefusedError("the file has a zip archive at its end, behind another pickle")


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(_SCRIPT_MEMBER.fullmatch(member) for member in archive.namelist())


def _check_members(names: list[str], release: str) -> PickleForm:
    """Check the files in a zip file as `check_zip_filenames` does."""
    newer = [name for name in names if _NEWER_MEMBER.fullmatch(name)]
    others = [name for name in names if not _MEMBER.fullmatch(name) and name not in newer]
    if others:
        writer = ""
        if others[0].endswith(_NEWEST_MEMBERS):
            writer = ", which torch 2.7 and newer write; v1.9.3 and v1.10.1 both refuse it"
        raise _RefusedError(
            f"the WebUI refuses a file with {others[0]!r} in it{writer}", "pickle-unreadable"
        )
    if newer and not reads_newer_zips(release):
        raise _RefusedError(newer_zip_message(newer[0], release), "pickle-unreadable")
    return "pickle-newer" if newer else "pickle"


def newer_zip_message(member: str, release: str) -> str:
    """Return why a release does not read a file that newer torch has saved."""
    return (
        f"A1111 {release} refuses a file with {member!r} in it, which newer torch writes; "
        "v1.10.1 reads it"
    )


def _read_index(archive: zipfile.ZipFile) -> bytes:
    found = [info for info in archive.infolist() if _INDEX.fullmatch(info.filename)]
    if len(found) != 1:
        raise _RefusedError(f"it has {len(found)} files data.pkl, not one", "pickle-unreadable")
    if found[0].file_size > _MAX_PICKLE:
        raise _RefusedError("its data.pkl is too large for one", "pickle-unreadable")
    return archive.read(found[0])


def _scan(stream: IO[bytes], name: str, allows: AllowImport) -> None:
    """Scan the pickle at the stream's position, and leave the stream behind it."""
    start = stream.tell()
    try:
        result = _scanner().scan_pickle_bytes(stream, name, multiple_pickles=False)
    except ValueError:  # the name of an import is made in another way than picklers do
        raise _RefusedError("the pickle hides what it would import") from None
    refused = [
        (found.module, found.name)
        for found in result.globals
        if not allows(found.module, found.name)
    ]
    if refused:
        raise _RefusedError(f"the pickle would import {_named(refused)}, which no such model needs")
    if result.scan_err:
        raise _RefusedError("the pickle breaks off", "pickle-unreadable")
    stream.seek(start)
    for opcode, argument, position in pickletools.genops(stream):
        # The unpickler makes room for every index below: no honest pickle skips indices.
        if "PUT" in opcode.name and int(argument or 0) > (position or 0):
            raise _RefusedError(f"the pickle would fill the memory by {opcode.name} {argument}")


def _named(imports: list[tuple[str, str]]) -> str:
    names = sorted(f"{module}.{name}" for module, name in imports)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _scanner() -> Any:  # noqa: ANN401 - a module
    from picklescan import scanner  # only where there is a pickle

    logging.getLogger("picklescan").setLevel(logging.CRITICAL + 1)  # findings are returned
    return scanner


class _Inert:
    """Stand for any object of a pickle; nothing that a pickle does to it has an effect."""

    state: Any = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, *_: object) -> None:
        pass

    def extend(self, _: object) -> None:
        """Take the items of a list."""

    append = extend


@dataclass(frozen=True, eq=False)
class _Tensor:
    shape: tuple[int, ...]


def _rebuild_tensor(*arguments: Any) -> _Tensor:  # noqa: ANN401 - as the pickle gives them
    """Stand for `_rebuild_tensor_v2(storage, storage_offset, size, stride, …)`."""
    return _Tensor(tuple(int(size) for size in arguments[2]))


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _DryRun(pickle.Unpickler):
    """Read a pickle as A1111's `RestrictedUnpickler` does, with objects that do nothing."""

    def __init__(self, stream: IO[bytes], allows: AllowImport) -> None:
        super().__init__(stream)
        self._allows = allows

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or function
        if not self._allows(module, name):
            raise _RefusedError(
                f"the pickle would import {module}.{name}, which no such model needs"
            )
        return _STAND_INS.get((module, name), _Inert)

    def persistent_load(self, saved_id: Any) -> _Inert:  # noqa: ANN401 - as the pickle gives it
        if saved_id[0] != "storage":
            raise _RefusedError(
                f"it refers to a {saved_id[0]!r} outside of itself", "pickle-unreadable"
            )
        return _Inert()


def _describe(root: object, form: PickleForm) -> PickleContent:
    if not isinstance(root, dict):
        return PickleContent(form, frozenset())
    inner = root.get("state_dict", root)
    tensors = inner if isinstance(inner, dict) else root
    return PickleContent(
        form,
        frozenset(root),
        {k: v.shape for k, v in tensors.items() if isinstance(k, str) and isinstance(v, _Tensor)},
        _count_embedded(root["string_to_param"]) if "string_to_param" in root else None,
    )


def _count_embedded(params: object) -> int:
    """Return the number of tensors in `string_to_param`: a dictionary, or torch's ParameterDict."""
    if isinstance(params, _Inert) and isinstance(params.state, dict):
        params = params.state.get("_parameters") or params.state.get("_keys") or {}
    return len(params) if isinstance(params, dict) else 0
