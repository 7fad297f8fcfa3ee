"""Find out whether A1111 can use the files of the models that a job names.

It draws without a LoRA of other content and says nothing, and takes its loaded model apart before
it reads the next checkpoint or VAE (v1.9.3: sd_models.py:831, sd_vae.py:271), so that nothing is
drawn after a broken one. What a build has refused for the image may lie on a volume.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import check_safetensors, check_structure, claims_safetensors
from scripts.common.fetch.model_content import Base, describe
from scripts.common.models.kinds import Kind as ModelKind
from scripts.container.serverless.availability.accepted_names import Kind
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.request_references import Reference
from scripts.container.settings import Settings
from scripts.container.webui.model_check import find_release

_KINDS: Final[Mapping[Kind, ModelKind]] = {
    "checkpoint": "checkpoint",
    "VAE": "vae",
    "VAE axis": "vae",
    "LoRA": "lora",
    "LoRA file": "lora",
    "hypernetwork": "hypernetwork",
    "upscaler": "upscaler",
    "hires upscaler": "upscaler",
}


@dataclass(frozen=True)
class FileCheck:
    """Check of the files that jobs name.

    Args:
        release: of A1111, as in v1.9.3; empty if unknown.
        any_pickle: A1111 does not check pickles itself, so none is refused.
    """

    release: str = ""
    any_pickle: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "FileCheck":
        """Return the check for this worker's WebUI."""
        return cls(find_release(settings), "--disable-safe-unpickle" in settings.further_flags)

    def require_usable(self, available: Available, references: Iterable[Reference]) -> None:
        """Check the file of each reference that has one.

        Raises:
            UserError: A1111 cannot use a file.
        """
        for reference in references:
            file = _find_file(available, reference)
            if file and (damage := self.find_damage(file, reference.kind)):
                message = f"input.{reference.field}: {damage.message}"
                hint = "replace the file, or name another one"
                raise UserError(message, location=file, hint=hint, code=damage.code)

    def find_damage(self, file: str, kind: Kind) -> UserError | None:
        """Return why A1111 cannot use a file; None if nothing shows it.

        A file is read again only once it has changed. One that cannot be read at all is left to
        A1111, which says why.

        Args:
            file: its path.
            kind: what a job names it as.
        """
        path = Path(file)
        if self.any_pickle and not claims_safetensors(path.name):
            return None
        try:
            found = path.stat()
        except OSError:
            return None
        model_kind = _KINDS.get(kind, "")
        return _read_damage(path, model_kind, self.release, found.st_mtime_ns, found.st_size)


def warn_of_other_bases(available: Available, references: Sequence[Reference]) -> list[str]:
    """Return warnings about LoRAs whose layers the checkpoint does not have.

    A1111 leaves such layers out without a word (`keys_failed_to_match` in Lora/networks.py).
    """
    bases = {
        reference: base
        for reference in references
        if reference.kind == "LoRA" and (base := _find_base(_find_file(available, reference)))
    }
    if not bases:
        return []
    options = available.facts.options
    loaded = Reference("checkpoint", "", str(options.get("sd_model_checkpoint") or ""))
    named = [each for each in references if each.field.endswith(".sd_model_checkpoint")]
    checkpoint = _find_base(_find_file(available, (*named, loaded)[0]))
    return [
        f"input.{reference.field}: the LoRA {reference.name!r} was made for {base}, and the"
        f" checkpoint is {checkpoint}: it changes little or nothing"
        for reference, base in bases.items()
        if checkpoint and checkpoint.split()[0] != base
    ]


def _find_file(available: Available, reference: Reference) -> str:
    """Return the file that the WebUI takes for a reference; empty where none is known."""
    names = available.names(reference.kind)
    return names.find_file(reference.name) if names else ""


def _find_base(file: str) -> Base:
    """Return the base model that a safetensors file is, or was made for; empty if unknown."""
    path = Path(file)
    try:
        found = path.stat()
    except OSError:
        return ""
    return _read_base(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1024)
def _read_base(path: Path, _changed_at: int, _size: int) -> Base:
    if not claims_safetensors(path.name):
        return ""
    try:
        shapes, metadata, _ = check_safetensors(path)
    except (UserError, OSError):
        return ""
    return describe(shapes, metadata).base


@lru_cache(maxsize=1024)
def _read_damage(
    path: Path, kind: str, release: str, _changed_at: int, _size: int
) -> UserError | None:
    try:
        check_structure(path, path.name, kind=kind, allow_pickle=True, release=release)
    except UserError as error:
        return error
    except OSError:
        return None
    return None
