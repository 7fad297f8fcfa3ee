"""Prepare all that the WebUI finds at its start: models, options, and its command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.flags import webui_command
from scripts.container.webui.model_flags import choose_model_flags
from scripts.container.webui.model_links import prepare_models
from scripts.container.webui.webui_options import apply_options


@dataclass(frozen=True)
class PreparedWebui:
    """All that starts the WebUI, and what it is then compared with.

    Args:
        command: makes its command line; at a restart it looks for pickles again.
        options: the options of image and environment, with the values in its settings file.
    """

    command: Callable[[], list[str]] = list
    options: Mapping[str, Any] = field(default_factory=dict)


def prepare_webui(settings: Settings) -> PreparedWebui:
    """Fetch the models that belong on the volume, link all models, and write the options.

    Raises:
        UserError: a model cannot be fetched, or the checkpoint is not there.
        OSError: a folder cannot be read or written.
    """
    if settings.volume_models.exists():
        # An image without such models starts faster without TLS and the like.
        from scripts.common.fetch.volume_models import fetch_all, read_list

        for file in fetch_all(read_list(settings.volume_models)):
            log("model-on-volume", path=file.path, state=file.state, seconds=file.seconds)
    options = apply_options(settings)
    tree = prepare_models(settings)
    model_flags = choose_model_flags(settings, tree.checkpoint)
    return PreparedWebui(partial(webui_command, settings, tree, model_flags), options)
