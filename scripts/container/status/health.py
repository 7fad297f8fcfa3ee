"""Whether the worker is ready, for HEALTHCHECK: reads one small file, asks nobody, imports little.

The supervisor watches the WebUI all the time; this only looks at what it found.
"""

from __future__ import annotations

import os
from pathlib import Path

from scripts.container.status.state import State, read_state


def verdict(worker_dir: Path) -> tuple[bool, str]:
    """Ready or not, and a sentence about it."""
    state = read_state(worker_dir)
    if state.phase != "ready":
        return False, f"{state.phase}{f': {state.reason}' if state.reason else ''}"
    if not _alive(state):
        return False, "the supervisor is gone"
    return True, "ready"


def main(worker_dir: Path) -> int:
    """Print the sentence; 0 when ready."""
    ready, sentence = verdict(worker_dir)
    print(sentence)
    return 0 if ready else 1


def _alive(state: State) -> bool:
    try:
        os.kill(state.supervisor, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
