"""Check that a model file is safetensors or plain data, not a pickle.

Loading a pickle runs code from the file, so it is accepted only with `allow_pickle: true`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch import safetensors_header

Form = Literal["safetensors", "pickle", "data"]

PICKLE_SUFFIXES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
_ZIP: Final = b"PK\x03\x04"  # what torch.save has written since 1.6
_PICKLE: Final = tuple(b"\x80" + bytes([version]) for version in range(2, 6))


def claims_safetensors(name: str) -> bool:
    """Return whether a file's name is that of a safetensors file."""
    return name.lower().endswith(".safetensors")


def refuse_pickle_name(name: str) -> None:
    """Refuse a file by its name, before anything is downloaded.

    Raises:
        UserError: the suffix is that of a pickle (code `pickle-refused`).
    """
    if name.lower().endswith(PICKLE_SUFFIXES):
        raise _refused(name)


def check_structure(path: Path, name: str, *, allow_pickle: bool) -> Form:
    """Check a file by its first bytes and, for safetensors, by its whole header.

    Args:
        path: the file.
        name: its name at the source; the suffix decides what it must be.
        allow_pickle: accept a pickle.

    Returns:
        Its form.

    Raises:
        UserError: it is a pickle, or is not what it claims to be.
    """
    if claims_safetensors(name):
        safetensors_header.check(path, name=name)
        return "safetensors"
    with path.open("rb") as stream:
        start = stream.read(4)
    form: Form = "pickle" if start.startswith((_ZIP, *_PICKLE)) else "data"
    if not allow_pickle:
        refuse_pickle_name(name)
        if form == "pickle":
            raise _refused(name)
    return form


def is_acceptable(form: str, name: str, *, allow_pickle: bool) -> bool:
    """Return whether a file of a known form passes `check_structure` with this name."""
    if claims_safetensors(name):
        return form == "safetensors"
    return allow_pickle or form != "pickle"


def _refused(name: str) -> UserError:
    return UserError(
        "a pickle can run code when it is loaded, so it is refused",
        location=name,
        code="pickle-refused",
    )
