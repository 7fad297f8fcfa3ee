"""Why a process died, as far as it can be told from outside."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

from scripts.container.child import Child, described

_MEMORY_EVENTS: Final = Path("/sys/fs/cgroup/memory.events")


def oom_kills(events: Path = _MEMORY_EVENTS) -> int:
    """How often the kernel has killed for memory in this container, 0 where it does not say."""
    try:
        match = re.search(r"^oom_kill (\d+)$", events.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


def explain(child: Child) -> dict[str, str]:
    """What is known about the end of a process, as fields of a log line."""
    from scripts.common.findings import FINDINGS

    lines = child.tail()
    text = "\n".join(lines)
    known = [row for row in FINDINGS.values() if row.signature and re.search(row.signature, text)]
    killed = child.code == -signal.SIGKILL and oom_kills() > 0
    return {
        "how": described(child.code),
        "hint": "the kernel killed for memory in this container" if killed else "",
        "finding": known[0].code if known else "",
        "cure": known[0].cure if known else "",
        "last": " | ".join(lines[-5:]),
    }
