"""One child process: started, listened to, and ended together with everything it started.

Start children from the main thread only: the kernel ends them with the thread that started them.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_TAIL: Final = 20
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_LONGEST: Final = 10_000  # characters of a line that are kept
PRCTL: Final = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may wait


class Child:
    """A running process and its last words.

    Args:
        name: what the log calls it.
        words: its command line.
        env: its whole environment.
        cwd: its working folder.
        on_exit: called from another thread when it has ended.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_exit: Callable[[Child], None],
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self.ended = threading.Event()
        self._on_exit = on_exit
        self._lines: deque[str] = deque(maxlen=_TAIL)
        self._process = subprocess.Popen(
            words,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self._process.pid

    @property
    def code(self) -> int:
        """Its exit code, negative for a signal; 0 while it runs."""
        return self._process.returncode or 0

    def tail(self) -> list[str]:
        """Its last lines."""
        return list(self._lines)

    def ask(self, signum: int = signal.SIGTERM) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Kill whatever is left of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _wait(self) -> None:
        self._process.wait()
        # What it started may hold the pipe open for ever; what it said itself is there at once.
        self._reader.join(0.5)
        self.ended.set()
        self._on_exit(self)

    def _pass_on(self) -> None:
        """Copy its output as it comes, progress bars included, and keep the last lines."""
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        source, rest = self._process.stdout.fileno(), ""
        while chunk := os.read(source, 65536):
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            *lines, rest = re.split(r"[\r\n]+", rest + chunk.decode("utf-8", "replace"))
            self._lines.extend(line[-_LONGEST:] for line in lines if line.strip())
            rest = rest[-_LONGEST:]
        if rest.strip():
            self._lines.append(rest)


def described(code: int) -> str:
    """An exit code for a person: `exit code 1`, or the signal's name."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _die_with_parent() -> None:
    PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
