"""Turn the extensions of an install into entries of the config."""

import re
from collections.abc import Collection, Iterable
from typing import Any, Final

from pydantic import ValidationError

from scripts.host.config.addresses import GITHUB
from scripts.host.config.extension_schema import Extension, check_extensions
from scripts.host.config.layers import Layer, validation_error
from scripts.host.importer.found_extensions import FoundExtension
from scripts.host.importer.user_flags import LeftOut

_SHORT_SSH: Final = re.compile(r"([\w.-]+@[\w.-]+):(?!/)")  # git's own short form of ssh://


def plan_extensions(
    found: Iterable[FoundExtension], configured: Collection[Extension]
) -> tuple[tuple[dict[str, Any], ...], tuple[LeftOut, ...]]:
    """Make an entry of each extension that the config does not have yet.

    Args:
        found: in the install.
        configured: of the config; one of the same name stays as it is.

    Returns:
        The entries, and what is not imported: whole extensions, or the changes in them.
    """
    taken = {each.folder_name.lower() for each in configured}
    entries, left_out = [], []
    for extension in found:
        if extension.name.lower() in taken:
            continue
        entry = _make_entry(extension)
        if problem := _find_problem(extension, entry):
            left_out.append(LeftOut(f"extension {extension.name}", problem))
            continue
        taken.add(extension.name.lower())
        entries.append(entry)
        if extension.changed != 0:
            state = extension.changed or "unknown"
            reason = f"{state} changed files; the image has those of the commit"
            left_out.append(LeftOut(f"changes of extension {extension.name}", reason))
    return tuple(entries), tuple(left_out)


def _make_entry(found: FoundExtension) -> dict[str, Any]:
    repo = _SHORT_SSH.sub(r"ssh://\1/", found.remote, count=1)
    for prefix in (f"{GITHUB}/", "ssh://git@github.com/"):
        if repo.startswith(prefix):
            repo = repo.removeprefix(prefix).rstrip("/").removesuffix(".git")
    entry = {"repo": repo, "commit": found.commit}
    named = Extension.model_construct(name=None, repo=repo).folder_name
    return entry if named == found.name else {"name": found.name, **entry}


def _find_problem(found: FoundExtension, entry: dict[str, Any]) -> str:
    """Return why an extension cannot be baked; empty if it can."""
    if found.is_disabled:
        return "it is switched off"
    if not (found.remote and found.commit):
        return "its repository or its commit is not known"
    try:
        check_extensions([Extension.model_validate(entry)])
    except ValidationError as error:
        return validation_error(error, Layer(entry), name="extension", hint="").message
    except ValueError as error:
        return str(error)
    return ""
