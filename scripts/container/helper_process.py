"""Run a program to its end from a thread of the supervisor.

The supervisor collects the exit codes of orphans (`supervisor/process.py`). The processes started
here are none, so it must know them from the moment on at which they exist.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from scripts.common.active_time import wait_for

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PRCTL: Final = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may wait
_LOCK: Final = threading.Lock()
_RUNNING: Final[set[int]] = set()


def run_helper(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: Path, deadline: float
) -> int | None:
    """Run a program to its end; nothing that it started in its process group is left.

    Args:
        command: its command line.
        env: its whole environment.
        cwd: its working folder.
        output: file for what it prints.
        deadline: active time at which it is killed.

    Returns:
        Its exit code; None where it was killed.

    Raises:
        OSError: it cannot be started, or `output` not be written.
    """
    with output.open("wb") as stream, _LOCK:
        helper = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        _RUNNING.add(helper.pid)
    try:
        return helper.returncode if wait_for(partial(_wait, helper), deadline) else None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(helper.pid, signal.SIGKILL)
        helper.wait()
        _RUNNING.discard(helper.pid)


@contextmanager
def known_helpers() -> Iterator[frozenset[int]]:
    """Yield the process ids of running helpers; none starts until the block ends."""
    with _LOCK:
        yield frozenset(_RUNNING)


def _wait(helper: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Return whether a program has ended within some seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        helper.wait(seconds)
    return helper.returncode is not None


def die_with_parent() -> None:
    """Let the kernel kill this process with the thread that started it (prctl(2))."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
