"""Check a pickled model (.pt, .pth, .ckpt, .bin) for what it would import, without importing it.

Most kinds are loaded by A1111's `modules/safe.py`, which answers a file that it refuses with
nothing at all (None): the same check is run here, so such a file is refused with the reason. Where
the loader is unknown, picklescan knows the dangerous imports. It rather than fickling: it reads
both forms of torch's files without torch, has no dependency, and lists imports; fickling decompiles
a whole pickle to judge it by lists of its own.
"""

import io
import logging
import pickle
import pickletools
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.pickle_dry_run import (
    DryRun,
    PickleContent,
    PickleForm,
    RefusedError,
    describe_root,
)
from scripts.common.fetch.pickle_imports import AllowImport, allow_list

_PICKLES: Final = 5  # in a file of torch.save before 1.6 (`safe.py`, `check_pt`)
_READ_ERRORS: Final = (  # of an unpickler that meets bytes which are no pickle
    *(pickle.UnpicklingError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, OverflowError, MemoryError),
)
_MAX_PICKLE: Final = 256 << 20  # bytes of `data.pkl`, which holds no tensor data

# `allowed_zip_names_re` of v1.9.3; v1.10.1 accepts the second, too
_MEMBER: Final = re.compile(r"([^/]+)/((data/\d+)|version|(data\.pkl))")
_NEWER_MEMBER: Final = re.compile(r"([^/]+)/(byteorder|.data/serialization_id)")
_NEWEST_MEMBERS: Final = ("/.format_version", "/.storage_alignment")  # written by torch 2.7.0
_INDEX: Final = re.compile(r"([^/]+)/data\.pkl")
_SCRIPT_MEMBER: Final = re.compile(r"[^/]+/(code/.*|constants\.pkl)")


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
    except RefusedError as error:
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


def _scan_any(path: Path) -> PickleContent:
    """Scan a file whose loader is unknown with picklescan's own list.

    A `.bin` may hold anything: one that neither begins as a pickle nor reads as one is data. The
    pickles of protocols 0 and 1 have no such beginning, so what the scanner cannot follow is read.
    """
    scanner = _scanner()
    with path.open("rb") as stream:
        starts_as_pickle = stream.read(1) in (b"P", b"\x80")
        stream.seek(0)
        try:
            result = scanner.scan_bytes(stream, path.name, ".pt")
        except Exception:  # bytes that no opcode fits, or a name that the scanner cannot follow
            if starts_as_pickle:
                raise
            stream.seek(0)
            _refuse_imports(stream)
            return PickleContent("data")
    dangerous = [
        (found.module, found.name)
        for found in result.globals
        if found.safety == scanner.SafetyLevel.Dangerous
    ]
    if dangerous:
        raise RefusedError(
            f"the pickle would import {_named(dangerous)}, which can run any program"
        )
    if result.scan_err and starts_as_pickle:
        raise RefusedError("the pickle breaks off", "pickle-unreadable")
    if _is_script(path):
        return PickleContent("torchscript")
    return PickleContent("pickle" if result.globals or starts_as_pickle else "data")


def _refuse_imports(stream: IO[bytes]) -> None:
    """Read pickles as a loader would, as far as the bytes are pickles, and refuse every import."""
    with suppress(*_READ_ERRORS):
        for _ in range(_PICKLES):
            DryRun(stream, lambda _module, _name: False).load()


def _scan_listed(path: Path, name: str, kind: str, release: str) -> PickleContent:
    """Scan a file with the allow list of its kind, then read it as A1111's `check_pt` does."""
    if _is_script(path):
        if kind == "interrogate" or (kind == "upscaler" and name.lower().endswith(".pt")):
            return _scan_any(path)  # loaded by torch.jit.load: clip/clip.py, spandrel's loader.py
        raise RefusedError(
            "the file is a TorchScript archive, which the WebUI does not read for this kind",
            "pickle-unreadable",
        )
    allows = allow_list(kind, name)
    form: PickleForm = "pickle"
    if zipfile.is_zipfile(path):
        _refuse_hidden_zip(path)
        with zipfile.ZipFile(path) as archive:
            if kind != "adetailer":
                form = _check_members(archive.namelist(), release)
            root = _load(io.BytesIO(_read_index(archive)), allows)
    else:
        with path.open("rb") as stream:
            # torch writes magic number, version, system, the object, keys of the storages
            root = [_load(stream, allows) for _ in range(_PICKLES)][3]
    return describe_root(root, form)


def _refuse_hidden_zip(path: Path) -> None:
    """Refuse a zip file behind other bytes: A1111 checks the zip file, torch loads those bytes."""
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            raise RefusedError("the file has a zip archive at its end, behind another pickle")


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
        raise RefusedError(
            f"the WebUI refuses a file with {others[0]!r} in it{writer}", "pickle-unreadable"
        )
    if newer and not reads_newer_zips(release):
        raise RefusedError(newer_zip_message(newer[0], release), "pickle-unreadable")
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
        raise RefusedError(f"it has {len(found)} files data.pkl, not one", "pickle-unreadable")
    if found[0].file_size > _MAX_PICKLE:
        raise RefusedError("its data.pkl is too large for one", "pickle-unreadable")
    return archive.read(found[0])


def _load(stream: IO[bytes], allows: AllowImport) -> object:
    """Read the pickle at the stream's position with objects that do nothing."""
    start = stream.tell()
    for opcode, argument, position in pickletools.genops(stream):
        # The unpickler makes room for every index below: no honest pickle skips indices.
        if "PUT" in opcode.name and int(argument or 0) > (position or 0):
            raise RefusedError(f"the pickle would fill the memory by {opcode.name} {argument}")
    stream.seek(start)
    return DryRun(stream, allows).load()


def _named(imports: list[tuple[str, str]]) -> str:
    names = sorted(f"{module}.{name}" for module, name in imports)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _scanner() -> Any:  # noqa: ANN401 - a module
    from picklescan import scanner  # only where there is a pickle

    logging.getLogger("picklescan").setLevel(logging.CRITICAL + 1)  # findings are returned
    return scanner
