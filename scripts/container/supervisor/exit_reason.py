"""Determine why a supervised process exited, and when to start it again."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.table import Diagnostic, diagnostics, match
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
_FINAL: Final = ("flag-unknown",)  # codes of failures that the same start would only repeat


@dataclass(frozen=True)
class ExitReason:
    """Reason why a process exited.

    Args:
        status: `exit code 1`, or the name of a signal, for example `SIGKILL`.
        out_of_memory: the kernel killed it for memory.
        diagnostic: entry of the diagnostics table that matches its output, if any.
        last_lines: end of its output, oldest first.
    """

    status: str
    out_of_memory: bool
    diagnostic: Diagnostic | None
    last_lines: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        """Whether another start would fail in the same way."""
        return self.diagnostic is not None and self.diagnostic.code in _FINAL

    def log_fields(self) -> dict[str, str]:
        """Return the fields of a log line."""
        known = self.diagnostic
        memory = "the kernel killed for memory in this container"
        return {
            "how": self.status,
            "hint": memory if self.out_of_memory else "",
            "finding": known.code if known else "",
            "cure": known.hint if known else "",
            "last": " | ".join(self.last_lines[-_LOGGED_LINES:]),
        }


def find_exit_reason(process: ChildProcess, *, oom_killed: bool) -> ExitReason:
    """Match a process's exit code and output against the diagnostics table.

    Args:
        process: a process that has ended.
        oom_killed: the kernel has killed for memory since the last exit.
    """
    known = match("\n".join(process.last_lines))
    if not known and (earlier := process.read_findings()):
        # A checkpoint that does not load is reported hundreds of lines before the end.
        known = diagnostics().get(earlier[-1].code)
    return ExitReason(
        status=_describe(process.returncode),
        out_of_memory=process.returncode == -signal.SIGKILL and oom_killed,
        diagnostic=known,
        last_lines=tuple(process.last_lines),
    )


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
