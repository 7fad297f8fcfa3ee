"""Why a process died, as far as it can be told from outside."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

from scripts.container.supervisor.process import Child, described

_COUNTERS: Final = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # cgroups of version 1
)


def oom_kills() -> int:
    """How often the kernel has killed for memory in this container, 0 where it does not say."""
    for path in _COUNTERS:
        try:
            match = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        return int(match[1]) if match else 0
    return 0


def explain(child: Child, *, oom: bool) -> dict[str, str]:
    """What is known about the end of a process, as fields of a log line.

    Args:
        child: what has ended.
        oom: whether the kernel has killed for memory since the last end.
    """
    from scripts.common.diagnostics.signatures import match

    lines = child.tail()
    known = match("\n".join(lines))
    killed = child.code == -signal.SIGKILL and oom
    return {
        "how": described(child.code),
        "hint": "the kernel killed for memory in this container" if killed else "",
        "finding": known.code if known else "",
        "cure": known.hint if known else "",
        "last": " | ".join(lines[-5:]),
    }
