"""Describe a worker under test, from outside its container or inside, and check start and end."""

import re
import time
from collections.abc import Iterator
from typing import Final, Protocol

from scripts.common.checks.check import Check, check, judge
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import excerpt, find_failure
from scripts.common.gpu.judge import Judgement

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


@check("container becomes ready", "not-ready")
def becomes_ready(worker: WorkerUnderTest) -> Judgement:
    """Read the phases of the start."""
    phases = ", ".join(f"{name} after {at:.1f} s" for name, at in worker.phases.items())
    return judge(phases, "" if "drawn" in worker.phases else "it is ready, but has not drawn")


@check("the serving process is not root", "served-by-root")
def is_not_root(worker: WorkerUnderTest) -> Judgement:
    """Read the owners of the WebUI's processes."""
    script = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = worker.run("sh", "-c", script).split()
    if not owners:
        return judge("", "there is no serving process")
    return judge(f"uid {', '.join(owners)}", "it is root" if "0" in owners else "")


@check("the serving process uses tcmalloc", "tcmalloc-missing")
def uses_tcmalloc(worker: WorkerUnderTest) -> Judgement:
    """Search the libraries that the WebUI's process has mapped."""
    script = (
        "p=$(pgrep -f [w]ebui.py | head -1);"
        " grep -om1 '[^ /]*libtcmalloc.*' /proc/$p/maps || [ $? = 1 ]"
    )
    # As the process's own user: another one may not read its maps.
    found = worker.run("sh", "-c", script, user="worker")
    return judge(found, "" if found.startswith("libtcmalloc") else "it is not mapped")


@check("no known failure in the log")
def log_is_clean(worker: WorkerUnderTest) -> Judgement:
    """Search the log for known failures."""
    log = worker.log
    if row := find_failure(log):
        return judge("", f"the log contains: {excerpt(row.code, log, context=0)}", row.code)
    return judge(f"{len(log.splitlines())} lines")


def stops_in_time(limit: float) -> Check[WorkerUnderTest]:
    """Make the check that a worker stops within a limit, in seconds."""

    def stop(worker: WorkerUnderTest) -> Judgement:
        began = time.monotonic()
        worker.stop(limit + 2)
        seconds = time.monotonic() - began
        return judge(f"{seconds:.1f} s", "" if seconds < limit else f"allowed are {limit:g} s")

    return Check("stops within its deadline", "stop-late", stop)


START_CHECKS: Final = (becomes_ready, is_not_root, uses_tcmalloc)
