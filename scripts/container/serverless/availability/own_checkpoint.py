"""Accept `model.safetensors` for the image's own checkpoint, which the WebUI lists by another name.

It is the file's name in the image, and was the checkpoint's name in the WebUI of older images.
"""

import re
from pathlib import Path
from typing import Any, Final

from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.request_references import list_references
from scripts.container.webui.start_checkpoint import baked_checkpoint

_CHECKSUM: Final = re.compile(r"\s*\[[^]]+]$")


def use_listed_name(path: str, fields: dict[str, Any], available: Available, listed: str) -> None:
    """Replace the file's name of the image's own checkpoint by the listed one.

    Another checkpoint that has the file's name keeps it.

    Args:
        path: route of the WebUI.
        fields: of the request; changed.
        available: what the WebUI has.
        listed: name of the image's own checkpoint in the WebUI.

    Raises:
        UserError: the list of checkpoints cannot be read.
    """
    baked = baked_checkpoint()
    for reference in list_references(path, fields):
        name = _CHECKSUM.sub("", reference.name)
        if reference.kind != "checkpoint" or name not in (baked.name, baked.stem):
            continue
        names = available.names("checkpoint")
        if names is None or reference.name in names.accepted or listed not in names.files:
            continue
        if _is_link_to(Path(names.files[listed]), baked):
            *parents, key = reference.field.split(".")
            place = fields
            for parent in parents:
                place = place[parent]
            place[key] = listed


def _is_link_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:
        return False
