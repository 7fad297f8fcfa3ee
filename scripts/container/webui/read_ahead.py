"""Read the checkpoint into the page cache while the WebUI imports its packages.

The WebUI maps the file and reads it by page faults, a little at a time, once its imports are done.
Reading it in order before, in large blocks, makes use of a disk or a network volume meanwhile.
"""

import os
import threading
import time
from mmap import PAGESIZE, mmap
from pathlib import Path
from typing import Final

from scripts.container.log import log
from scripts.container.settings import Settings

_BLOCK: Final = 8 << 20  # bytes


def start_reading(settings: Settings, checkpoint: Path) -> None:
    """Read a checkpoint beside everything else, in a thread that nobody waits for."""
    threading.Thread(
        target=_read, args=(settings, checkpoint), name="read-ahead", daemon=True
    ).start()


def _read(settings: Settings, checkpoint: Path) -> None:
    began = time.monotonic()
    try:
        with checkpoint.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if not has_room(settings.accelerator, checkpoint, size):
                log("read-ahead-skipped", path=checkpoint, reason="main memory is short")
                return
            read = read_uncached(file.fileno(), size)
    except OSError as error:  # the WebUI's own error says more
        log("read-ahead-failed", level="warning", path=checkpoint, reason=str(error))
        return
    seconds = round(time.monotonic() - began, 1)
    log("read-ahead", path=checkpoint, bytes=read, of=size, seconds=seconds)


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


def read_uncached(file: int, size: int) -> int:
    """Read the blocks of a file that are not in the page cache; return their number of bytes.

    Args:
        file: descriptor.
        size: length of the file in bytes.
    """
    total = 0
    with mmap(-1, _BLOCK) as block:
        for start in range(0, size, _BLOCK):
            end = min(start + _BLOCK, size)
            if not all(_is_cached(file, at) for at in (start, max(start, end - PAGESIZE))):
                total += os.preadv(file, [block], start)
    return total


def _is_cached(file: int, offset: int) -> bool:
    try:
        return os.preadv(file, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:  # it would have to wait, or the file system cannot tell
        return False
