"""Options of the WebUI (`config.json`, `/sdapi/v1/options`) as the image or the worker sets them.

Which options there are depends on the release and its extensions, so that only a running WebUI
knows all names and types: `scripts.common.checks.option_checks` compares with it.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

_REFUSED: Final[Mapping[str, str]] = {
    # list_models in modules/sd_models.py sets it from --ckpt, which the worker always gives.
    "sd_model_checkpoint": "the worker loads the checkpoint that MODEL_PATH names",
    "sd_checkpoint_hash": "the WebUI sets it itself",
    # restore_config_state_file in modules/initialize_util.py checks out other commits with git.
    "restore_config_state_file": "it changes the WebUI's own files, which are read-only here",
}
_SECRET: Final = re.compile(r"(api_?key|password|secret)", re.IGNORECASE)
_FORMATS: Final = ("png", "jpg", "jpeg", "webp")
"""Values of samples_format that the API can send; all others make each job a 500.

Source: encode_pil_to_base64 in `modules/api/api.py`, alike in v1.9.3 and v1.10.1.
"""
_FOLDERS: Final = ("outdir_", "temp_dir")
"""Beginnings of the names of options that are folders to write to."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check options before they reach the WebUI, as far as names and values alone show.

    Raises:
        ValueError: the WebUI must not have one of them here, or its value is of no possible type.
    """
    for name, value in settings.items():
        if reason := _REFUSED.get(name):
            raise ValueError(f"{name} cannot be set: {reason}")
        if not _is_value(value):
            raise ValueError(f"{name} is neither text, a number, true, false nor a list of texts")
        if name == "samples_format" and str(value).lower() not in _FORMATS:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(_FORMATS)}")
        is_folder = name.startswith(_FOLDERS) and isinstance(value, str) and value
        if is_folder and not PurePosixPath(str(value)).is_absolute():
            # A relative one lies below the WebUI's own folder.
            raise ValueError(
                f"{name} must be an absolute path: the WebUI's own folder is read-only"
            )


def check_baked(settings: Mapping[str, Any]) -> None:
    """Check options that an image is to hold.

    Raises:
        ValueError: as for `check_settings`, or one is named like a secret.
    """
    check_settings(settings)
    for name in settings:
        if _SECRET.search(name):
            raise ValueError(f"{name} looks like a secret; set it by WEBUI_SETTINGS at run time")


def parse_settings(text: str) -> dict[str, Any]:
    """Parse a JSON object of options.

    Raises:
        ValueError: it is no such object, or has an option that the WebUI must not have here.
    """
    if not text:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ValueError('set it to a JSON object, such as {"CLIP_stop_at_last_layers": 2}')
    check_settings(settings)
    return settings


def _is_value(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, (bool, int, str)) or (
        isinstance(value, float) and math.isfinite(value)
    )
