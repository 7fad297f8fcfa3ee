"""Look for what a request names in the lists of the WebUI, as A1111 compares names."""

import re
from collections.abc import Iterable
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.availability.accepted_names import Names
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.request_references import Reference

_CHECKSUM: Final = re.compile(r"\s*\[[^]]+]\s*$")  # sd_models.py:168
_TEMPLATE: Final = re.compile(r"__|[{}|$]")  # wildcards, which extensions replace later


def require_names(available: Available, references: Iterable[Reference]) -> None:
    """Look for all names; once more after the WebUI has looked for new files.

    Raises:
        UserError: some are not there (code `name-unknown`).
    """
    missing = [reference for reference in references if not _has(available, reference)]
    if missing:
        available.refresh(reference.kind for reference in missing)
        missing = [reference for reference in missing if not _has(available, reference)]
    if missing:
        parts = []
        for reference in missing:
            names = available.names(reference.kind) or Names(frozenset(), ())
            field, kind = f"input.{reference.field}", reference.kind
            kind_name = kind.removesuffix(" file").removesuffix(" axis")
            parts.append(names.describe_missing(field, kind_name, reference.name))
        raise UserError("; ".join(parts), code="name-unknown")


def _has(available: Available, reference: Reference) -> bool:
    """Return whether the WebUI has what a reference names; mostly True where it has no list of it.

    Without a list of LoRAs the extension of A1111 that reads them is off, by a flag such as
    `--disable-all-extensions` or an option; then their tags do nothing.
    """
    names, name = available.names(reference.kind), reference.name
    if names is None:
        return reference.kind != "LoRA" and not reference.needs_list
    if name in names.accepted:
        return True
    if reference.match == "any case":
        return name.lower() in {each.lower() for each in (*names.accepted, *names.aliases)}
    if reference.kind in ("LoRA", "hypernetwork") and _TEMPLATE.search(name):
        return _has_templates(available)
    if reference.match == "part":
        wanted = name.lower() if reference.kind == "ControlNet model" else name
        texts = (wanted, _CHECKSUM.sub("", wanted))
        return any(text and text in whole for text in texts for whole in names.searched)
    return reference.kind == "checkpoint" and available.has_checkpoint_hash(name)


def _has_templates(available: Available) -> bool:
    """Return whether an extension is there that replaces wildcards in prompts."""
    scripts = (available.rows("scripts") or {}).get("txt2img", ())
    return any("dynamic prompts" in name for name in scripts)
