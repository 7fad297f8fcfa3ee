"""End the worker: running jobs first, then every process; its exit code says why."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from scripts.common.active_time import active_time, call_later, wait_for
from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.status import state
from scripts.container.supervisor import process
from scripts.container.supervisor.process import ChildProcess

KILL_TIME: Final = 2.0
"""Seconds that the kernel gets to end killed processes."""

_POLL: Final = 0.05


class ExitCode(IntEnum):
    """Exit codes of the worker. A platform replaces a worker that exits with another than 0."""

    STOPPED = 0
    FAILED = 1
    REFUSED = 3
    GAVE_UP = 4
    CUT_OFF = 5


@contextmanager
def end_stuck_start(seconds: float) -> Iterator[None]:
    """End this process if the block takes too long: a volume that hangs answers no system call.

    Nothing runs yet that would have to end before it.
    """

    def give_up() -> None:
        reason = f"folders of the worker did not answer within {seconds:g} s: see the volume"
        log("gave-up", level="error", reason=reason, code="not-ready")
        os._exit(ExitCode.GAVE_UP)

    timer = call_later(seconds, give_up)
    try:
        yield
    finally:
        timer.cancel()


def let_jobs_end(
    processes: Mapping[str, ChildProcess], settings: Settings, exit_code: ExitCode
) -> ExitCode:
    """Let running jobs end, then the WebUI, both within STOP_TIMEOUT.

    Args:
        processes: the worker's, by name.
        settings: with the time limit.
        exit_code: that the worker is to end with.

    Returns:
        The exit code; `CUT_OFF` where a stop was asked for and took too long.
    """
    deadline = active_time() + settings.stop_timeout
    if handler := processes.get("handler"):
        handler.send_signal(signal.SIGTERM)
        while not handler.ended.wait(_POLL) and active_time() < deadline:
            # An idle SDK may wait up to 90 s for an answer from RunPod before it ends.
            if not state.read_job_counts(settings.worker_dir).running:
                break
    if webui := processes.get("webui"):
        webui.send_signal(signal.SIGTERM)
        if not wait_for(webui.ended.wait, deadline):
            log("cut-off", level="warning", after=settings.stop_timeout)
            return ExitCode.CUT_OFF if exit_code == ExitCode.STOPPED else exit_code
    return exit_code


def kill_all(processes: Mapping[str, ChildProcess]) -> None:
    """Kill all children with what they started, daemons included."""
    deadline = time.monotonic() + KILL_TIME
    for child in processes.values():
        child.kill_group()
    process.kill_orphans(own_pids(processes), deadline)
    for child in processes.values():
        child.ended.wait(max(deadline - time.monotonic(), 0.0))


def own_pids(processes: Mapping[str, ChildProcess]) -> set[int]:
    """Return the process ids of the children that the supervisor started itself."""
    return {child.pid for child in processes.values()}
