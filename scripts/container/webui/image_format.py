"""Set the WebUI's options of the image format for a while: for one job, or while it warms up.

As `override_settings` they would do nothing: the WebUI restores those before it encodes the images.
Setting an option also saves it; the saved file is put right at once, so that whatever ends the job
or the worker, the WebUI's next start finds its own settings.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import OPTIONS, WebuiClient
from scripts.container.log import log

_QUICK: Final = 10.0  # seconds; the WebUI answers these at any time


@contextmanager
def image_format(
    client: WebuiClient,
    options: Mapping[str, Any],
    save: Callable[[Mapping[str, Any]], None],
) -> Iterator[None]:
    """Set options until the block ends.

    Args:
        client: of the WebUI.
        options: to be set; none costs no request.
        save: writes options into the file that the WebUI reads at start.

    Raises:
        UserError: they could not be set (code `webui-died`).
    """
    if not options:
        yield
        return
    try:
        current = client.read(OPTIONS, timeout=_QUICK)
        before = {name: without_fraction(current[name]) for name in options}
        changes = {name: value for name, value in options.items() if before[name] != value}
        if changes:
            _set(client, changes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"the WebUI does not take the options of the image format: {error}"
        raise UserError(reason, code="webui-died") from None
    if not changes:
        yield
        return
    restored = {name: before[name] for name in changes}
    save(restored)
    try:
        yield
    finally:
        try:
            _set(client, restored)
        except (OSError, ValueError) as error:
            # A WebUI that does not answer is replaced, and starts with its own settings.
            log("options-not-restored", level="error", reason=str(error))


def without_fraction(value: Any) -> Any:  # noqa: ANN401 - an option of any type
    """Return 2.0 as 2: the WebUI answers so for whole numbers, and uses some as an index.

    `typemap` in `modules/options.py` makes every integer option a number of the answer;
    `hidden_states[-opts.CLIP_stop_at_last_layers]` in `modules/sd_hijack_clip.py` fails for 2.0,
    and so does Pillow for 80.0 as the quality of a JPEG.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(client: WebuiClient, options: Mapping[str, Any]) -> None:
    response = client.request("POST", OPTIONS, dict(options), timeout=_QUICK)
    if response.status != 200:
        raise ValueError(response.error())
