"""Write A1111's own options into the settings file that it reads at start."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scripts.common.files import write_atomically
from scripts.container.log import log
from scripts.container.settings import Settings

CHECKPOINTS_LIMIT: Final = "sd_checkpoints_limit"
"""Option: number of checkpoints that stay loaded, by default 1.

Those that are not in use stay in main memory, since `sd_checkpoints_keep_in_cpu` is on by default
(`reuse_model_from_already_loaded` in `modules/sd_models.py`). Alike in v1.9.3 and v1.10.1, where
`sd_checkpoint_cache` is obsolete.
"""

_FLAG: Final = "--ui-settings-file"


def worker_options(settings: Settings) -> dict[str, Any]:
    """Return the options that the environment asks for."""
    count = settings.checkpoints_in_memory
    return {CHECKPOINTS_LIMIT: count} if count else {}


def write_options(settings: Settings, options: Mapping[str, Any]) -> None:
    """Set options in the settings file; the others in it stay.

    A file that cannot be read as JSON is left alone, with a warning: A1111 moves it away itself.
    """
    path = options_path(settings)
    if not options:
        return
    try:
        before = read_options(settings)
        if any(before.get(name) != value for name, value in options.items()):
            write_atomically(path, json.dumps({**before, **options}, indent=4))
    except (OSError, ValueError) as error:
        names = ", ".join(options)
        log("options-not-written", level="warning", path=path, options=names, reason=str(error))


def read_options(settings: Settings) -> dict[str, Any]:
    """Return the options in the settings file; empty where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object.
    """
    path = options_path(settings)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def options_path(settings: Settings) -> Path:
    """Return the settings file: `config.json` in the data folder, if no flag names another."""
    arguments = list(settings.further_flags)
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == _FLAG:
            following = arguments[number + 1] if number + 1 < len(arguments) else ""
            return settings.webui_dir / (value or following)
    return settings.data_dir / "config.json"


def count_checkpoints_in_memory(settings: Settings) -> int:
    """Return how many checkpoints A1111 keeps loaded: by the environment, its file, or 1."""
    if settings.checkpoints_in_memory:
        return settings.checkpoints_in_memory
    try:
        return max(int(read_options(settings).get(CHECKPOINTS_LIMIT, 1)), 1)
    except (OSError, ValueError, TypeError):
        return 1
