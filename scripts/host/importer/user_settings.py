"""Find the settings of an install's `config.json` that differ from A1111's defaults.

The WebUI writes all of its options into that file, so most of it says nothing. Extensions keep
theirs there too, access keys among them: those are named, and their values never shown.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_settings import check_settings

_TABLE: Final = Path(__file__).with_name("option_defaults.yaml")
_DISABLE_ALL: Final = (
    "extra",
    "all",
)  # values of disable_all_extensions that switch off added ones


@dataclass(frozen=True)
class UserSettings:
    """Settings of an install.

    Args:
        changed: options of A1111 that differ from their defaults, with their values.
        unusable: names of options that the worker's WebUI does not have, such as those of
            extensions, or does not take that value for.
        checkpoint: name of the checkpoint that was loaded last; empty if unknown.
        disabled_extensions: names of switched-off extensions; `*` for all that were added.
    """

    changed: Mapping[str, Any] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    checkpoint: str = ""
    disabled_extensions: tuple[str, ...] = ()


def read_user_settings(path: Path, release: str) -> UserSettings:
    """Read an install's `config.json`; a missing or empty one has no settings.

    Args:
        path: the file.
        release: A1111 release that will have the settings, for example `v1.9.3`.

    Raises:
        UserError: it cannot be read, or is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
        options = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return UserSettings()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", location=str(path)) from None
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise UserError(
            "not a JSON object",
            location=str(path),
            hint="the WebUI would start with its defaults: correct the file, or remove it",
        )
    return choose_settings(options, release)


def choose_settings(options: Mapping[str, Any], release: str) -> UserSettings:
    """Choose among the options of a `config.json`. Arguments as for `read_user_settings`."""
    table = _read_table()
    own = set(table["carried"]) | {name for names in table["left_out"].values() for name in names}
    missing = set(table["missing_in"].get(release, ()))
    known = {name: each for name, each in table["carried"].items() if name not in missing}
    changed = {
        name: _as_type_of(default, options[name])
        for name, default in known.items()
        if name in options and options[name] != default
    }
    misfits = [name for name, value in changed.items() if not _fits(known[name], value)]
    for name in misfits:
        del changed[name]
    usual = table["interface"].items()
    own |= {name for name, default in usual if options.get(name) == default}
    unknown = [name for name in options if name not in own or name in missing]
    disabled = options.get("disabled_extensions")
    names = [str(name) for name in disabled] if isinstance(disabled, list) else []
    if options.get("disable_all_extensions") in _DISABLE_ALL:
        names = ["*"]
    # A title is a file name and, in brackets, the beginning of its hash.
    checkpoint = str(options.get("sd_model_checkpoint") or "").partition(" [")[0]
    unusable = tuple(sorted([*unknown, *misfits]))
    return UserSettings(changed, unusable, checkpoint, tuple(names))


def _as_type_of(default: object, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return whole numbers as such: A1111's API writes 2.0, which its code takes for no index."""
    is_whole = type(default) is int and isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def _fits(default: object, value: object) -> bool:
    """Return whether the config may hold a value, and the WebUI takes it for this option."""
    try:
        check_settings({"option": value})
    except ValueError:
        return False
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if is_number:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return default is None or type(default) is type(value)


@cache
def _read_table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return table
