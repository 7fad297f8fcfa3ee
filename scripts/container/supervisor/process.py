"""Run child processes: start them, read their output, end them with everything they started.

Start children from the main thread only: the kernel ends them with the thread that started them.

A daemon leaves its process group. When its parent ends, the kernel makes it a child of the nearest
ancestor that is a subreaper (prctl(2)); here that is the supervisor, which ends such orphans.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from scripts.container.helper_process import die_with_parent, known_helpers
from scripts.container.status.log_findings import Finding, find_in_line

_KEPT_LINES: Final = 20
_KEPT_FINDINGS: Final = 100
_KEPT_CHARACTERS: Final = 10_000  # of each line
_POLL: Final = 0.01
_READ_POLL: Final = 0.0002
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


class ChildProcess(subprocess.Popen[bytes]):
    """A process in a group of its own, the end of its output, and the known failures in it.

    Args:
        name: its name in the log.
        command: its command line.
        env: its whole environment.
        cwd: its working folder.
        on_exit: called from another thread when it has ended.
        on_line: called from another thread with each line of its output that is not empty.

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
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.started_at = time.monotonic()
        self.ended = threading.Event()
        self.is_replaced = False  # the supervisor has killed it
        self._on_exit, self._on_line = on_exit, on_line
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._findings: deque[Finding] = deque(maxlen=_KEPT_FINDINGS)
        self._is_reading = False
        super().__init__(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._reader = threading.Thread(target=self._pass_on_output, daemon=True)
        self._reader.start()
        threading.Thread(target=self._report_exit, daemon=True).start()

    def kill_group(self) -> None:
        """Kill what is left of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def read_findings(self, timeout: float = 1.0) -> list[Finding]:
        """Return the known failures in its output, oldest first, up to what it has printed by now.

        Args:
            timeout: seconds after which output that never pauses is waited for no longer.
        """
        deadline = time.monotonic() + timeout
        while self._has_unread_output() and time.monotonic() < deadline:
            time.sleep(_READ_POLL)
        return list(self._findings)

    def _has_unread_output(self) -> bool:
        """Return whether something it has printed is not in the findings yet."""
        assert self.stdout is not None  # noqa: S101 - requested above
        size = fcntl.ioctl(self.stdout.fileno(), termios.FIONREAD, bytes(4))
        # In this order: what has left the pipe is being read until the flag says otherwise.
        return any(size) or self._is_reading

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
        poll = select.poll()
        poll.register(source, select.POLLIN)
        while poll.poll():
            self._is_reading = True
            if not (chunk := os.read(source, 65536)):
                break
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            *lines, rest = re.split(r"[\r\n]+", rest + chunk.decode("utf-8", "replace"))
            self._keep(lines)
            rest = rest[-_KEPT_CHARACTERS:]
            self._is_reading = False
        self._keep([rest])
        self._is_reading = False

    def _keep(self, lines: Sequence[str]) -> None:
        """Keep the last lines, and what they show."""
        kept = [line[-_KEPT_CHARACTERS:] for line in lines if line.strip()]
        self.last_lines.extend(kept)
        for line in kept:
            self._on_line(line)
        self._findings.extend(found for line in kept if (found := find_in_line(line)))


def become_subreaper() -> None:
    """Adopt every later orphan among this process's descendants."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


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

    with known_helpers() as helpers:
        children = psutil.Process().children()
        return [child.pid for child in children if child.pid not in {*own, *helpers}]
