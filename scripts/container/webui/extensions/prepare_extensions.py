"""Bring the extensions of image and volumes into the data folder, and install what they need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.extensions.extension_faults import ExtensionFault
from scripts.container.webui.extensions.extension_set import ExtensionSet, log_broken
from scripts.container.webui.extensions.find_extensions import find_extensions, read_own_copies

if TYPE_CHECKING:
    from scripts.container.webui.extensions.installations import Progress


def prepare_extensions(
    settings: Settings, env: Mapping[str, str], deadline: float, on_progress: Progress
) -> ExtensionSet:
    """Find extensions, copy those that are not in the data folder, and install what they need.

    Args:
        settings: of the worker.
        env: environment that all processes share.
        deadline: active time at which installers are killed.
        on_progress: called with what is being done.

    Raises:
        OSError: the data folder cannot be written.
    """
    started = time.monotonic()
    own_copies = read_own_copies(settings.data_dir)
    found = find_extensions(settings, own_copies)
    for problem in found.problems:
        log("extensions-unread", level="warning", path=problem.path, reason=problem.reason)
    for extension in found.shadowed:
        log("extension-shadowed", level="warning", extension=extension.name, path=extension.path)
    if not found.used and not own_copies:
        return ExtensionSet()
    # A worker without extensions starts faster without these.
    from scripts.container.webui.extensions.extension_copies import make_copies
    from scripts.container.webui.extensions.installations import Installations

    installations = Installations(settings, env, deadline, on_progress)
    if settings.volume_extensions == "on":
        installations.find(each for each in found.used if each.origin != "image")
    copied = [each for each in found.used if each.origin != "data-folder"]
    failures = make_copies(
        settings.data_dir, copied, installations.additions, settings.model_scan_timeout
    )
    broken = {**installations.install_missing(without=failures), **failures}
    for name, reason in sorted(broken.items()):
        log_broken(ExtensionFault(name, reason), "it is left out")
    if found.used:
        listed = ", ".join(f"{each.name} ({each.origin})" for each in found.used)
        log("extensions", found=listed, broken=len(broken), seconds=time.monotonic() - started)
    return ExtensionSet(
        tuple(each.name for each in found.used),
        broken,
        frozenset(broken),
        installations.packages,
        in_place=len(copied) < len(found.used),
    )
