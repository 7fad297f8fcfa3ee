"""Run child processes: start them, read their output, end them with everything they started.

Start children from the main thread only: the kernel ends them with the thread that started them.

A daemon leaves its process group. When its parent ends, the kernel makes it a child of the nearest
ancestor that is a subreaper (prctl(2)); here that is the supervisor, which ends such orphans.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

_KEPT_LINES: Final = 20
_KEPT_CHARACTERS: Final = 10_000  # of each line
_POLL: Final = 0.01
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36
_PRCTL: Final = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may wait


class ChildProcess(subprocess.Popen[bytes]):
    """A process in a group of its own, and the end of its output.

    Args:
        name: its name in the log.
        command: its command line.
        env: its whole environment.
        cwd: its working folder.
        on_exit: called from another thread when it has ended.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_exit: Callable[[ChildProcess], None],
    ) -> None:
        self.name = name
        self.started_at = time.monotonic()
        self.ended = threading.Event()
        self._on_exit = on_exit
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        super().__init__(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._reader = threading.Thread(target=self._pass_on_output, daemon=True)
        self._reader.start()
        threading.Thread(target=self._report_exit, daemon=True).start()

    def kill_group(self) -> None:
        """Kill what is left of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _report_exit(self) -> None:
        self.wait()
        # What it started may keep the pipe open; its own output is there at once.
        self._reader.join(0.5)
        self.ended.set()
        self._on_exit(self)

    def _pass_on_output(self) -> None:
        """Copy its output as it comes, progress bars included, and keep the last lines."""
        assert self.stdout is not None  # noqa: S101 - requested above
        source, rest = self.stdout.fileno(), ""
        while chunk := os.read(source, 65536):
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            *lines, rest = re.split(r"[\r\n]+", rest + chunk.decode("utf-8", "replace"))
            self.last_lines.extend(line[-_KEPT_CHARACTERS:] for line in lines if line.strip())
            rest = rest[-_KEPT_CHARACTERS:]
        if rest.strip():
            self.last_lines.append(rest)


def become_subreaper() -> None:
    """Adopt every later orphan among this process's descendants."""
    _PRCTL(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(own: Collection[int]) -> None:
    """Collect the exit codes of orphans that have ended, so that no zombies stay.

    Args:
        own: process ids of the children that this process started itself.
    """
    for pid in _orphans(own):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_orphans(own: Collection[int], deadline: float) -> None:
    """Kill all orphans, and their children, which become orphans as they end.

    Args:
        own: process ids of the children that this process started itself.
        deadline: monotonic time at which waiting for the kernel stops.
    """
    while (pids := _orphans(own)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reap_orphans(own)
        time.sleep(_POLL)


def _orphans(own: Collection[int]) -> list[int]:
    import psutil  # not needed before the WebUI has started

    return [child.pid for child in psutil.Process().children() if child.pid not in own]


def _die_with_parent() -> None:
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
