"""Prepare what the WebUI finds at its start: models, extensions, options, and its command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.container.log import log
from scripts.container.paths import find_hub_reference
from scripts.container.settings import Settings
from scripts.container.webui.extensions.extension_faults import ExtensionFault, ExtensionFaults
from scripts.container.webui.extensions.extension_set import ExtensionSet
from scripts.container.webui.extensions.prepare_extensions import prepare_extensions
from scripts.container.webui.flags import webui_command
from scripts.container.webui.model_flags import choose_model_flags
from scripts.container.webui.model_links import prepare_models
from scripts.container.webui.webui_options import apply_options

_INSTALL_SHARE: Final = 0.7  # of the time until readiness; the WebUI needs the rest to start


@dataclass(frozen=True)
class PreparedWebui:
    """All that starts the WebUI, and what it is then compared with.

    Args:
        checkpoint: the one that is loaded at start.
        command: makes its command line; at a restart it looks for pickles again.
        options: the options of image and environment, with the values in its settings file.
        extensions: those in its data folder.
    """

    checkpoint: Path = field(default=Path())
    command: Callable[[], list[str]] = list
    options: Mapping[str, Any] = field(default_factory=dict)
    extensions: ExtensionSet = field(default_factory=ExtensionSet)

    def watch(
        self, settings: Settings, on_fault: Callable[[ExtensionFault], None]
    ) -> ExtensionFaults:
        """Return a reader of the output of a process that is started so."""
        names = {*self.extensions.names} - self.extensions.left_out
        return ExtensionFaults(settings.data_dir / "extensions", names, on_fault)

    def with_broken(self, fault: ExtensionFault) -> "PreparedWebui":
        """Return the same with an extension that failed, but did not end the WebUI."""
        return replace(self, extensions=self.extensions.with_broken(fault))

    def without(self, settings: Settings, fault: ExtensionFault) -> "PreparedWebui":
        """Return what starts it without an extension that ended it, and write its options anew."""
        extensions = self.extensions.with_broken(fault, is_left_out=True)
        options = apply_options(settings, extensions.left_out)
        return replace(self, options=options, extensions=extensions)


def prepare_webui(
    settings: Settings,
    env: Mapping[str, str],
    deadline: float,
    on_progress: Callable[[str], None],
) -> PreparedWebui:
    """Fetch the models that belong on the volume, link all models, and write the options.

    Args:
        settings: of the worker.
        env: environment that all processes share.
        deadline: active time at which the worker must be ready.
        on_progress: called with what takes long.

    Raises:
        UserError: a model cannot be fetched, or the checkpoint is not there.
        OSError: a folder cannot be read or written.
    """
    if settings.volume_models.exists():
        # An image without such models starts faster without TLS and the like.
        from scripts.common.fetch.volume_models import fetch_all, read_list

        for file in fetch_all(read_list(settings.volume_models, settings.hf_endpoint)):
            log("model-on-volume", path=file.path, state=file.state, seconds=file.seconds)
    if find_hub_reference(settings):
        from scripts.container.webui.hub_checkpoint import prepare_hub_checkpoint

        prepare_hub_checkpoint(settings, on_progress)
    install_deadline = active_time() + _INSTALL_SHARE * (deadline - active_time())
    extensions = prepare_extensions(settings, env, install_deadline, on_progress)
    options = apply_options(settings, extensions.left_out)
    tree = prepare_models(settings)
    model_flags = choose_model_flags(settings, tree.checkpoint)
    command = partial(webui_command, settings, tree, model_flags)
    return PreparedWebui(tree.checkpoint, command, options, extensions)
