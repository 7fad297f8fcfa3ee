"""Check the options that a job sets, and undo what would outlive it."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import OPTIONS, WebuiClient
from scripts.container.log import log
from scripts.container.serverless.request.field_values import MismatchError, convert, describe
from scripts.container.serverless.request.webui_api import FieldType
from scripts.container.webui.image_format import without_fraction

PATH_OPTIONS: Final = ("outdir_*", "temp_dir", "clean_temp_dir_at_start", "*filename_pattern")
"""Options that no job may set: they choose where files are written (`restricted_opts` in
`modules/shared_options.py`, and the same kind of names in extensions)."""

UNDONE: Final = {
    "options": "options that a job sets end with it; use override_settings, which do so as well",
    "unload-checkpoint": "the next job needs the checkpoint: it is loaded again",
}
"""Routes that change what later jobs get, and the warning that the change is undone."""

_NAMES: Final = ("sd_model_checkpoint", "sd_vae")
"""Options that name a model; "" is none."""

_LIKE_A_KNOWN_ONE: Final = 0.8  # ratio of difflib from which on a name is taken as misspelled
_TIMEOUT: Final = 10.0
_UNDO_TIMEOUT: Final = 120.0  # seconds; a checkpoint may have to be loaded again
_CODE: Final = "input-invalid"


def check_options(
    where: str,
    settings: dict[str, Any],
    options: Mapping[str, Any],
    *,
    has_extensions: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Check and convert the options that a job sets; remove null where an option cannot be null.

    Args:
        where: what holds them, for messages.
        settings: the options; changed.
        options: of the running WebUI, without those of extensions, which it does not list; empty
            if they are not known.
        has_extensions: returns whether there are any, whose option another one may be.

    Returns:
        Warnings for the customer.

    Raises:
        UserError: the WebUI has no such option, or jobs may not set it (code `input-invalid`).
    """
    warnings = []
    for name, value in list(settings.items()):
        if any(_is_like(name, pattern) for pattern in PATH_OPTIONS):
            hint = "it chooses where the worker writes files"
            raise UserError(f"{where}.{name}: jobs may not set it", hint=hint, code=_CODE)
        if (value is None and options.get(name) is not None) or (value == "" and name in _NAMES):
            del settings[name]
            warnings.append(f"{name}: {value!r} is no value of this option and was left out")
        elif options and name not in options and value is not None:
            near = difflib.get_close_matches(name, options, n=1, cutoff=_LIKE_A_KNOWN_ONE)
            if near or not has_extensions():
                raise _unknown(where, name, options)
            warnings.append(f"{name[:60]} is no option of the WebUI, but may be an extension's")
        elif isinstance(value, float):
            settings[name] = without_fraction(value)
        elif isinstance(value, str) and isinstance(options.get(name), int | float):
            settings[name] = _convert(f"{where}.{name}", value, options[name])
            warnings.append(f"{name}: {value!r} is read as {settings[name]!r}")
    return warnings


def _unknown(where: str, name: str, options: Mapping[str, Any]) -> UserError:
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "list them with api: options"
    return UserError(f"{where}.{name[:60]} is no option of the WebUI", hint=hint, code=_CODE)


def _convert(where: str, text: str, usual: float) -> Any:  # noqa: ANN401 - a switch or a number
    """Return a text as a value of the option's type: the WebUI would keep it, and fail later.

    Raises:
        UserError: it is none (code `input-invalid`).
    """
    kinds = ("boolean",) if isinstance(usual, bool) else ("integer", "number")
    for kind in kinds:
        with suppress(MismatchError):
            return convert(FieldType(kind), text)
    expected = "true or false" if isinstance(usual, bool) else "a number"
    raise UserError(f"{where} must be {expected}, not {describe(text)}", code=_CODE)


@contextmanager
def undo_afterwards(client: WebuiClient, name: str, *, sets_options: bool) -> Iterator[None]:
    """Undo after a POST what it leaves to later jobs.

    Args:
        client: of the WebUI.
        name: of the route.
        sets_options: the request has `override_settings`.
    """
    try:
        with _restored_options(client, changes=sets_options or name == "options"):
            yield
    finally:
        if name == "unload-checkpoint":
            # The WebUI does not notice by itself that the weights have left the GPU.
            _undo(client, "/sdapi/v1/reload-checkpoint", None)


@contextmanager
def _restored_options(client: WebuiClient, *, changes: bool) -> Iterator[None]:
    """Restore every option that a job changed and the WebUI did not restore itself.

    Args:
        client: of the WebUI.
        changes: the job sets options; without it nothing is read.
    """
    if not changes:
        yield
        return
    before = _read_options(client)
    try:
        yield
    finally:
        after = _read_options(client)
        changed = {key: before[key] for key in before if key in after and after[key] != before[key]}
        if changed:
            log("options-restored", names=",".join(changed))
            _undo(client, OPTIONS, changed)


def _undo(client: WebuiClient, path: str, body: dict[str, Any] | None) -> None:
    try:
        client.request("POST", path, body, timeout=_UNDO_TIMEOUT)
    except OSError as error:
        log("job-not-undone", level="error", path=path, reason=str(error))


def _is_like(name: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern


def _read_options(client: WebuiClient) -> dict[str, Any]:
    """Read the WebUI's options; none if it does not answer."""
    try:
        options = client.read(OPTIONS, timeout=_TIMEOUT)
    except (OSError, ValueError):
        return {}
    options = options if isinstance(options, dict) else {}
    return {name: without_fraction(value) for name, value in options.items()}
