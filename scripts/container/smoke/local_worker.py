"""Run the worker beside the smoke test, as a process of the same container."""

import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Final

from scripts.common.checks.check import CommandError
from scripts.common.checks.worker_under_test import wait_until_ready
from scripts.common.diagnostics.table import refine_code

_KILL_AFTER: Final = 30.0  # seconds, at the end of a run that something has broken off


class LocalWorker:
    """A worker that serves on loopback only; it is a `WorkerUnderTest`.

    Args:
        environ: its environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.phases: dict[str, float] = {}
        self._lines: list[str] = []
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.container", "serve"],
            env={**environ, "WORKER_MODE": "pod", "WEBUI_HOST": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.append(line)
            self._queue.put(line)
        self._queue.put(None)

    @property
    def log(self) -> str:
        """Return all that it has printed."""
        return "".join(self._lines)

    def run(self, *command: str, user: str = "") -> str:
        """Run a command in the container; see `run_command`."""
        return run_command(*command, user=user)

    def wait_until_ready(self, seconds: float) -> None:
        """Follow the log until the worker has drawn its first image.

        Raises:
            UserError: it failed, ended, or took too long.
        """
        self.phases = wait_until_ready(self._follow(seconds), seconds)

    def _follow(self, seconds: float) -> Iterator[str | None]:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                yield self._queue.get(timeout=left)
            except Empty:
                return

    def stop(self, seconds: float) -> None:
        """Ask it to stop; kill it when it has not after that time."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(seconds)


@contextmanager
def running_worker(environ: Mapping[str, str]) -> Iterator[LocalWorker]:
    """Run a worker until the block ends."""
    worker = LocalWorker(environ)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.stop(_KILL_AFTER)


def run_command(*command: str, user: str = "") -> str:
    """Run a command in this container and return what it prints.

    Args:
        command: program and arguments.
        user: account to run it as; this process's own where it may not change that.

    Raises:
        CommandError: its exit code is not 0, or it cannot be started.
    """
    options: dict[str, Any] = {}
    if user and os.geteuid() == 0:
        group = pwd.getpwnam(user).pw_gid
        options = {"user": user, "group": group, "extra_groups": []}
    try:
        process: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            **options,
        )
    except OSError as error:
        raise CommandError(str(error)) from None
    if process.returncode:
        raise CommandError(process.stdout, code=refine_code("", process.stdout))
    return process.stdout.strip()
