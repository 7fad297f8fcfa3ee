"""Read a volume's checkpoint into the page cache while the WebUI imports its packages.

The WebUI maps the file and reads it by page faults, a little at a time, once its imports are done.
Reading it in order before, in large blocks, makes use of the volume meanwhile.
"""

import os
import threading
import time
from pathlib import Path
from typing import Final

from scripts.container.log import log
from scripts.container.settings import Settings

_BLOCK: Final = 8 << 20  # bytes
# The kernel reads no more at a request than a device's own limit, often 1.25 MiB
# (`force_page_cache_ra` in mm/readahead.c).
_REQUEST: Final = 1 << 20


def start_reading(settings: Settings, checkpoint: Path) -> None:
    """Read a checkpoint that is on no disk of the image, in a thread that nobody waits for."""
    threading.Thread(
        target=_read, args=(settings, checkpoint), name="read-ahead", daemon=True
    ).start()


def _read(settings: Settings, checkpoint: Path) -> None:
    began = time.monotonic()
    try:
        with checkpoint.open("rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            size = facts.st_size
            if facts.st_dev == settings.webui_dir.stat().st_dev:
                return  # a cold disk is what the imports wait for, and they come first
            if not has_room(settings.accelerator, checkpoint, size):
                log("read-ahead-skipped", path=checkpoint, reason="main memory is short")
                return
            read_into_cache(file.fileno(), size)
    except OSError as error:  # the WebUI's own error says more
        log("read-ahead-failed", level="warning", path=checkpoint, reason=str(error))
        return
    seconds = round(time.monotonic() - began, 1)
    log("read-ahead", path=checkpoint, bytes=size, seconds=seconds)


def has_room(accelerator: str, checkpoint: Path, size: int) -> bool:
    """Return whether the file fits into main memory beside all that serving takes.

    Args:
        accelerator: cuda or cpu.
        checkpoint: the file.
        size: its length in bytes.
    """
    from scripts.container.webui.checkpoint_memory import (
        estimate_main_memory,
        read_available_memory,
        read_weights,
    )

    needed = estimate_main_memory(accelerator, [read_weights(checkpoint, size)])
    return needed + size <= read_available_memory()


def read_into_cache(file: int, size: int) -> None:
    """Have the kernel read a file into its page cache, a block at a time and in order.

    Nothing is copied to this process, so that what is cached already costs next to nothing.

    Args:
        file: descriptor.
        size: length of the file in bytes.
    """
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        for part in range(start, end, _REQUEST):
            os.posix_fadvise(file, part, min(_REQUEST, end - part), os.POSIX_FADV_WILLNEED)
        os.pread(file, 1, end - 1)  # waits for the block, so that the disk has time for others
