"""Prepare all that the WebUI finds at its start: models, options, and its command line."""

from collections.abc import Callable
from functools import partial

from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.flags import webui_command
from scripts.container.webui.model_flags import choose_model_flags
from scripts.container.webui.model_links import prepare_models
from scripts.container.webui.webui_options import worker_options, write_options


def prepare_webui(settings: Settings) -> Callable[[], list[str]]:
    """Fetch the models that belong on the volume, link all models, and write the options.

    Returns:
        Function that makes the WebUI's command line; at a restart it looks for pickles again.

    Raises:
        UserError: a model cannot be fetched, or the checkpoint is not there.
        OSError: a folder cannot be read or written.
    """
    if settings.volume_models.exists():
        # An image without such models starts faster without TLS and the like.
        from scripts.common.fetch.volume_models import fetch_all, read_list

        for file in fetch_all(read_list(settings.volume_models)):
            log("model-on-volume", path=file.path, state=file.state, seconds=file.seconds)
    write_options(settings, worker_options(settings))
    tree = prepare_models(settings)
    return partial(webui_command, settings, tree, choose_model_flags(settings, tree.checkpoint))
