"""Finds and ends what children leave behind: processes that made themselves daemons.

A daemon is in no process group that could be killed. When its parent ends, the kernel hands it to
the nearest ancestor that asked for orphans (prctl(2), PR_SET_CHILD_SUBREAPER); here that is the
supervisor, which finds them among its own children.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from scripts.container.supervisor.process import PRCTL

_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_POLL: Final = 0.01


def adopt() -> None:
    """From now on, what loses its parent below this process becomes a child of this process."""
    PRCTL(_PR_SET_CHILD_SUBREAPER, 1)


def reap(own: Collection[int]) -> None:
    """Collect the exit codes of orphans that have ended, so that they are no zombies.

    Args:
        own: process ids of the children that this process started itself.
    """
    for pid in _orphans(own):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end(own: Collection[int], deadline: float) -> None:
    """Kill all orphans, and what they had started, which is handed on as they end.

    Args:
        own: process ids of the children that this process started itself.
        deadline: monotonic time at which the kernel has had time enough.
    """
    while (found := _orphans(own)) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reap(own)
        time.sleep(_POLL)


def _orphans(own: Collection[int]) -> list[int]:
    me = os.getpid()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if pid not in own and _parent(pid) == me]


def _parent(pid: int) -> int:
    """A process's parent, 0 for one that is gone."""
    try:
        # The name before it, in brackets, may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
