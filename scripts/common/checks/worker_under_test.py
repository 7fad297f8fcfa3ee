"""Describe a worker under test, outside its container or inside, and wait until it is ready."""

import re
import time
from collections.abc import Iterator
from typing import Final, Protocol

from scripts.common.diagnostics.error import UserError

_READY: Final = re.compile(r" event=ready (.*)")
_PHASE: Final = re.compile(r"(\w+)_after=([\d.]+)")
# A worker that recovers is welcome in production; an image whose worker has to is not shipped.
_FAILED: Final = re.compile(
    r" event=(?:\w+-unusable|webui-died|gave-up|refused|no-models|start-failed) (.*)"
)
_LOG_READS, _LOG_PAUSE = 10, 1.0  # seconds


class WorkerUnderTest(Protocol):
    """A running worker.

    Args:
        phases: seconds from its start to each phase, once it is ready.
    """

    phases: dict[str, float]

    @property
    def log(self) -> str:
        """Return all that it has printed."""

    def run(self, *command: str, user: str = "") -> str:
        """Run a command beside it and return what that prints; raises CommandError."""

    def stop(self, seconds: float) -> None:
        """Ask it to stop; kill it when it has not after that time."""


def wait_until_ready(lines: Iterator[str | None], seconds: float) -> dict[str, float]:
    """Follow a worker's log until it has drawn its first image; return its phases.

    Args:
        lines: of the log; None where it has ended. It ends itself after `seconds`.
        seconds: for the message.

    Raises:
        UserError: the worker failed, ended, or took too long.
    """
    reason, code = f"not within {seconds:.0f} s", "not-ready"
    for line in lines:
        if line is None:
            reason = "the container has ended"
            break
        if ready := _READY.search(line):
            return {name: float(value) for name, value in _PHASE.findall(ready[1])}
        if failed := _FAILED.search(line):
            reason = _reason(failed[1])
            code = "webui-died" if " event=webui-died " in line else code
            break
    raise UserError(f"the worker is not ready: {reason}", code=code)


def _reason(fields: str) -> str:
    """Return the reason in a log line's fields, or all fields without one; 200 characters."""
    found = re.search(r'\breason=("(?:[^"\\]|\\.)*"|\S+)', fields)
    return (found[1].strip('"') if found else fields)[:200]


def read_settled_log(worker: WorkerUnderTest) -> str:
    """Return the log once it no longer grows: its lines pass through worker and engine."""
    log = ""
    for _ in range(_LOG_READS):
        before, log = log, worker.log
        if log == before:
            break
        time.sleep(_LOG_PAUSE)
    return log
