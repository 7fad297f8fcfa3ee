"""Check that a model file is what its name and its kind say, before it gets its final name.

Loading a pickle runs code from the file: one is accepted with `allow_pickle: true`, or for kinds
that are commonly pickles, and then only if all that it would import is known to be harmless.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch import safetensors_header
from scripts.common.fetch.embedding_file import check_embedding_image, check_embedding_tensors
from scripts.common.fetch.impostors import refuse_impostor
from scripts.common.fetch.model_content import ModelContent, describe

if TYPE_CHECKING:
    from scripts.common.fetch.pickle_dry_run import PickleContent

Form = Literal["safetensors", "pickle", "pickle-newer", "torchscript", "data"]

PICKLE_SUFFIXES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
IMAGE_SUFFIXES: Final = (".png", ".webp", ".jxl", ".avif")
PICKLED_KINDS: Final = (
    "embedding",
    "hypernetwork",
    "controlnet",
    "upscaler",
    "face-restoration",
    "interrogate",
    "adetailer",
)
"""Kinds that are commonly pickles, so that one needs no `allow_pickle`; its imports are checked."""

_ZIP: Final = b"PK\x03\x04"  # what torch.save has written since 1.6
_PICKLE: Final = tuple(b"\x80" + bytes([version]) for version in range(2, 6))


def claims_safetensors(name: str) -> bool:
    """Return whether a file's name is that of a safetensors file."""
    return name.lower().endswith(".safetensors")


def refuse_pickle_name(name: str, kind: str = "") -> None:
    """Refuse a file by its name, before anything is downloaded.

    Raises:
        UserError: the suffix is that of a pickle, and the kind is not commonly one (code
            `pickle-refused`).
    """
    if kind not in PICKLED_KINDS and name.lower().endswith(PICKLE_SUFFIXES):
        raise _refused(name)


def check_structure(
    path: Path, name: str, *, kind: str = "", allow_pickle: bool, release: str = ""
) -> Form:
    """Check a file by its beginning; safetensors by the whole header, a pickle by its imports.

    Args:
        path: the file.
        name: its name at the source; the suffix decides what it must be.
        kind: its kind of model; empty to check only the structure.
        allow_pickle: accept a pickle of any kind.
        release: A1111 release that will load it; empty if unknown.

    Returns:
        Its form.

    Raises:
        UserError: it is no model at all, a pickle that is not accepted, not what its name claims,
            or of another kind.
    """
    refuse_impostor(path, name, kind=kind)
    if claims_safetensors(name):
        summary = safetensors_header.check(path, name=name)
        if kind == "embedding":
            check_embedding_tensors(summary.shapes, name)
        _refuse_misfit(describe(summary.shapes, summary.metadata), kind, name)
        return "safetensors"
    if kind == "embedding" and name.lower().endswith(IMAGE_SUFFIXES):
        check_embedding_image(path, name)
        return "data"
    with path.open("rb") as stream:
        start = stream.read(4)
    starts_as_pickle = start.startswith((_ZIP, *_PICKLE))
    if not allow_pickle:
        refuse_pickle_name(name, kind)
        if starts_as_pickle and kind not in PICKLED_KINDS:
            raise _refused(name)
    if not starts_as_pickle and not name.lower().endswith(PICKLE_SUFFIXES):
        return "data"
    from scripts.common.fetch.pickle_scan import scan_pickle  # only where there is a pickle

    content = scan_pickle(path, name, kind=kind, release=release)
    _check_content(content, kind, name)
    return content.form


def is_acceptable(
    form: str, name: str, *, kind: str = "", allow_pickle: bool, release: str = ""
) -> bool:
    """Return whether a file of a known form, checked for this kind, passes `check_structure`."""
    if claims_safetensors(name):
        return form == "safetensors"
    if form == "pickle-newer" and kind not in ("", "other"):
        from scripts.common.fetch.pickle_scan import reads_newer_zips

        if not reads_newer_zips(release):
            return False
    is_pickle = form in ("pickle", "pickle-newer", "torchscript")
    return allow_pickle or kind in PICKLED_KINDS or not is_pickle


def read_content(path: Path, name: str = "") -> ModelContent:
    """Determine what a safetensors file holds: its kind, and the base model of it.

    Args:
        path: the file.
        name: its name in messages; its own name by default.

    Raises:
        UserError: it is not a whole safetensors file.
        OSError: it cannot be read.
    """
    summary = safetensors_header.check(path, name=name)
    return describe(summary.shapes, summary.metadata)


def _check_content(content: PickleContent, kind: str, name: str) -> None:
    if content.keys is None:
        return
    if kind == "embedding":
        check_embedding_tensors(content.shapes, name, embedded=content.embedded)
    elif kind == "hypernetwork" and not any(type(key) is int for key in content.keys):
        raise UserError(
            "the file has no layers of a hypernetwork", location=name, code="wrong-kind"
        )
    elif content.embedded is not None and kind not in ("embedding", "other"):
        raise UserError(
            f"the file is an embedding, not of kind {kind}", location=name, code="wrong-kind"
        )
    _refuse_misfit(describe(content.shapes), kind, name)


def _refuse_misfit(content: ModelContent, kind: str, name: str) -> None:
    if misfit := content.misfit(kind):
        raise UserError(misfit, location=name, code="wrong-kind")


def _refused(name: str) -> UserError:
    return UserError(
        "a pickle can run code when it is loaded, so it is refused",
        location=name,
        code="pickle-refused",
    )
