"""Check the content of models that no build has checked: those on the volume and in DATA_DIR.

The WebUI leaves out a file that it cannot use without a word, or answers a job with a 500: a LoRA
that is a checkpoint, a web page under a model's name, a pickle that it refuses to load.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.models.folder_listing import Problem, describe_error
from scripts.container.settings import Settings
from scripts.container.webui.model_tree import ModelEntry

_LIMIT: Final = 4  # files at once; of most only the beginning is read
_CHECKED_RULES: Final = ("data-folder", "model-dir", "worker", "a1111", "comfyui")


def check_models(
    settings: Settings, entries: Iterable[ModelEntry], timeout: float
) -> list[Problem]:
    """Return what is wrong with the models that the WebUI sees, as far as it was read in time."""
    release = find_release(settings)
    calls = {
        Path(entry.path): partial(_find_damage, entry, release)
        for entry in entries
        if entry.rule in _CHECKED_RULES and not entry.shadowed_by
    }
    results = run_concurrently(calls, _LIMIT, timeout=timeout)
    found = [Problem(path, str(damage)) for path, damage in results if damage]
    return sorted(found, key=lambda problem: str(problem.path))


def find_release(settings: Settings) -> str:
    """Return the WebUI's release, as in v1.9.3; empty where it does not say.

    The first line of its CHANGELOG.md is `## 1.9.3`.
    """
    try:
        with (settings.webui_dir / "CHANGELOG.md").open(encoding="utf-8") as stream:
            match = re.fullmatch(r"## (\d+\.\d+\.\d+)", stream.readline().strip())
    except (OSError, ValueError):
        return ""
    return f"v{match[1]}" if match else ""


def _find_damage(entry: ModelEntry, release: str) -> str:
    from scripts.common.fetch.file_format import check_structure

    path = Path(entry.path)
    try:
        check_structure(path, path.name, kind=entry.kind, allow_pickle=True, release=release)
    except UserError as error:
        return error.message
    except OSError as error:
        return f"it cannot be read: {describe_error(error)}"
    return ""
