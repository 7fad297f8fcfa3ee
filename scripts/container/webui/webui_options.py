"""Write A1111's own options into the settings file that it reads at start.

Of one option the value of the environment counts, then the one that a user has saved, then the
image's. The WebUI saves all options in one file, so a second file beside it records which of them
the worker has written: those are no user's choice, and give way when image or environment change.
"""

import json
from collections.abc import Collection, Mapping
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

_DISABLED: Final = "disabled_extensions"
_FLAG: Final = "--ui-settings-file"
_WRITTEN, _REPLACED = "written", "replaced"
_NOTHING: Final = object()  # equal to no value of an option

Options = dict[str, Any]


def apply_options(settings: Settings, left_out: Collection[str] = ()) -> Options:
    """Write the options of image and environment into the settings file; all others in it stay.

    A file that cannot be read as JSON is left alone, with a warning: A1111 moves it away itself.

    Args:
        settings: of the worker.
        left_out: names of extensions that are disabled beside those that the options name.

    Returns:
        Those options, with the values that they now have in the file; also those not written.
    """
    wanted = {**settings.image_settings, **environment_options(settings)}
    if left_out:
        wanted[_DISABLED] = sorted(left_out)
    path, record = options_path(settings), record_path(settings)
    try:
        before, own = _read_object(path), _read_object(record)
        saved = _restore(before, own)
        options = {**settings.image_settings, **saved, **environment_options(settings)}
        if left_out:
            before_it = options.get(_DISABLED)
            configured = before_it if isinstance(before_it, (list, tuple)) else ()
            options[_DISABLED] = wanted[_DISABLED] = sorted({*configured, *left_out})
        # In this order a worker that ends in between takes nothing of a user's for its own.
        _write(record, own, _record(saved, options, wanted))
        _write(path, before, options)
    except (OSError, ValueError) as error:
        if wanted:
            names = ", ".join(wanted)
            log("options-not-written", level="warning", path=path, options=names, reason=str(error))
        return wanted
    effective = {name: options[name] for name in wanted}
    if kept := [name for name, value in effective.items() if value != wanted[name]]:
        log("options-saved-by-user", path=path, kept=", ".join(kept))
    return effective


def save_options(settings: Settings, options: Mapping[str, Any]) -> None:
    """Put options into the settings file, whoever wrote others of that name; log a failure."""
    path = options_path(settings)
    try:
        before = _read_object(path)
        _write(path, before, {**before, **options})
    except (OSError, ValueError) as error:
        names = ", ".join(options)
        log("options-not-written", level="warning", path=path, options=names, reason=str(error))


def environment_options(settings: Settings) -> Options:
    """Return the options that the environment asks for; its own variables come first."""
    count = settings.checkpoints_in_memory
    limit = {CHECKPOINTS_LIMIT: count} if count else {}
    return {**settings.webui_settings, **limit}


def _restore(options: Options, own: Options) -> Options:
    """Return a file's options without what the worker has written, as far as nobody changed it."""
    restored = dict(options)
    for name, entry in own.items():
        if isinstance(entry, dict) and options.get(name, _NOTHING) == entry.get(_WRITTEN):
            del restored[name]
            if _REPLACED in entry:
                restored[name] = entry[_REPLACED]
    return restored


def _record(saved: Options, options: Options, wanted: Options) -> Options:
    """Return what the worker writes, by option, with the saved value that it replaces."""
    return {
        name: {
            _WRITTEN: options[name],
            **({_REPLACED: saved[name]} if name in saved else {}),
        }
        for name in wanted
        if name not in saved or saved[name] != options[name]
    }


def _read_object(path: Path) -> Options:
    """Return a file's JSON object; empty where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return found


def _write(path: Path, before: Options, after: Options) -> None:
    if before != after:
        write_atomically(path, json.dumps(after, indent=4))


def read_options(settings: Settings) -> Options:
    """Return the options in the settings file; empty where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object.
    """
    return _read_object(options_path(settings))


def options_path(settings: Settings) -> Path:
    """Return the settings file: `config.json` in the data folder, if no flag names another."""
    arguments = list(settings.further_flags)
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == _FLAG:
            following = arguments[number + 1] if number + 1 < len(arguments) else ""
            return settings.webui_dir / (value or following)
    return settings.data_dir / "config.json"


def record_path(settings: Settings) -> Path:
    """Return the file that records which options the worker has written."""
    path = options_path(settings)
    return path.with_name(f".{path.stem}-worker.json")


def count_checkpoints_in_memory(settings: Settings) -> int:
    """Return how many checkpoints A1111 keeps loaded: by the environment, its file, or 1."""
    if settings.checkpoints_in_memory:
        return settings.checkpoints_in_memory
    try:
        return max(int(read_options(settings).get(CHECKPOINTS_LIMIT, 1)), 1)
    except (OSError, ValueError, TypeError):
        return 1
