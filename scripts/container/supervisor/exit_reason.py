"""Determine why a supervised process exited, and when to start it again."""

import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.common.diagnostics.table import diagnostics
from scripts.container.status.log_findings import Finding
from scripts.container.supervisor.process import ChildProcess

HEALED_AFTER: Final = 600.0
"""Seconds of service after which earlier exits are forgotten."""

_COUNTERS: Final = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
)
_MAX_PAUSE: Final = 60.0
_MAX_DOUBLINGS: Final = 20  # more of them would overflow a float
_LOGGED_LINES: Final = 5
_WINDOW: Final = 120.0  # seconds for which a line of a WebUI that served may explain its end
_BURST: Final = 5.0  # seconds in which a cause and its effects are printed
_FINAL: Final = ("flag-unknown",)  # codes of failures that the same start would only repeat


@dataclass(frozen=True)
class ExitReason:
    """Reason why a process exited.

    Args:
        status: `exit code 1`, or the name of a signal, for example `SIGKILL`.
        sent_by: sender of the signal that ended it; the kernel sends one for lack of memory. Empty
            where no signal ended it.
        cause: known failure that its output shows, if any.
        last_lines: end of its output, oldest first.
    """

    status: str
    sent_by: Literal["", "supervisor", "kernel", "unknown"]
    cause: Finding | None
    last_lines: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        """True if another start would fail in the same way."""
        return self.cause is not None and self.cause.code in _FINAL

    def log_fields(self) -> dict[str, str]:
        """Return the fields of a log line."""
        memory = "the kernel killed for memory in this container"
        return {
            "how": self.status,
            "sent_by": self.sent_by,
            "hint": memory if self.sent_by == "kernel" else "",
            **cause_fields(self.cause),
            "last": " | ".join(self.last_lines[-_LOGGED_LINES:]),
        }


def cause_fields(cause: Finding | None) -> dict[str, str]:
    """Return the fields of a log line about a cause: code, line and next step."""
    if not cause:
        return {}
    hint = diagnostics()[cause.code].hint
    return {"finding": cause.code, "cause": cause.text, "cure": hint}


def find_cause(process: ChildProcess, *, serving: bool) -> Finding | None:
    """Return the known failure in a process's output that explains its end, if there is one.

    Of several it is the one that stands first in the table, where causes stand above their effects:
    a damaged checkpoint is reported hundreds of lines before what fails without it. Of lines about
    the same failure it is the longest, which says most. After a job that failed for lack of memory
    a process serves on, so while it serves only the last failures count.

    Args:
        process: a process.
        serving: it has served; otherwise all its output counts.
    """
    order = list(diagnostics())
    found = process.read_findings()
    if serving and found:
        since = max(time.monotonic() - _WINDOW, found[-1].at - _BURST)
        found = [each for each in found if each.at >= since]
    return min(found, key=lambda each: (order.index(each.code), -len(each.text)), default=None)


def find_exit_reason(
    process: ChildProcess, *, oom_killed: bool, serving: bool = False
) -> ExitReason:
    """Determine why a process exited, by its exit code and its output.

    Args:
        process: a process that has ended.
        oom_killed: the kernel has killed for memory since the last exit.
        serving: it has served.
    """
    return ExitReason(
        status=_describe(process.returncode),
        sent_by=_find_sender(process, oom_killed),
        cause=find_cause(process, serving=serving),
        last_lines=tuple(process.last_lines),
    )


def _find_sender(
    process: ChildProcess, oom_killed: bool
) -> Literal["", "supervisor", "kernel", "unknown"]:
    """Return the sender of the signal that ended a process."""
    if process.returncode >= 0:
        return ""
    if process.is_replaced:
        return "supervisor"
    if process.returncode == -signal.SIGKILL and oom_killed:
        return "kernel"
    # A process that crashes gets its signal from the kernel too, which tells its parent no more.
    return "unknown"


def count_oom_kills() -> int:
    """Return the container's count of out-of-memory kills; 0 where cgroups do not report it.

    Source: `memory.events` (cgroup v2), `memory.oom_control` (v1), kernel documentation.
    """
    for path in _COUNTERS:
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        return int(found[1]) if found else 0
    return 0


class RestartPolicy:
    """Limits the restarts of one process.

    Args:
        limit: restarts in a row.
        pause: seconds before the first; doubles each time, up to a minute.
    """

    def __init__(self, limit: int, pause: float) -> None:
        self._limit, self._pause = limit, pause
        self._used = 0

    def next_pause(self, started_at: float, ready_since: float, ended_at: float) -> float | None:
        """Return the seconds until the next start; None when the limit is reached.

        A handler that exits at once was not in service, however long the WebUI has been ready.

        Args:
            started_at: monotonic time of the process's start.
            ready_since: monotonic time since which the worker was ready, 0 when it was not.
            ended_at: monotonic time of the process's end.
        """
        if ready_since and ended_at - max(started_at, ready_since) > HEALED_AFTER:
            self._used = 0
        if self._used >= self._limit:
            return None
        self._used += 1
        return min(self._pause * 2.0 ** min(self._used - 1, _MAX_DOUBLINGS), _MAX_PAUSE)


def _describe(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
