"""Exchange state between the worker's processes: two small files below WORKER_DIR.

`state.json` is written by the supervisor only, `jobs.json` by the handler only. No reader ever
sees a part of one.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from scripts.common.files import write_atomically
from scripts.container.settings import Settings


@dataclass(frozen=True)
class State:
    """State of the worker.

    Args:
        phase: starting, loading (the API answers, no image has been drawn yet), ready,
            restarting, draining or stopped.
        supervisor: its process id.
        server: the WebUI's process id, 0 when it does not run.
        restarts: how often the WebUI was started again.
        reason: why it is not ready; empty when nothing is wrong.
        seconds: start-up phases by name.
        pip_cache: folder of pip's cache; empty before it is chosen.
        extensions: why an extension is broken, by name; empty for one that works.
    """

    phase: str = "stopped"
    supervisor: int = 0
    server: int = 0
    restarts: int = 0
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    pip_cache: str = ""
    extensions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobCounts:
    """Number and duration of jobs.

    Args:
        running: jobs in progress.
        done: jobs that succeeded.
        failed: jobs that ended with an error.
        seconds: duration of all jobs that have ended.
    """

    running: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0


Record = TypeVar("Record", State, JobCounts)


def read_state(worker_dir: Path) -> State:
    """Read the supervisor's state; `stopped` where there is none."""
    return _read(worker_dir / "state.json", State)


def pip_cache_in_use(settings: Settings) -> Path:
    """Return pip's cache of the running worker, or the configured one if none runs."""
    return Path(read_state(settings.worker_dir).pip_cache or settings.pip_cache_dir)


def write_state(worker_dir: Path, state: State) -> None:
    """Write the supervisor's state.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(worker_dir / "state.json", json.dumps(asdict(state)))


def read_job_counts(worker_dir: Path) -> JobCounts:
    """Read the handler's counts; zeros where there are none."""
    return _read(worker_dir / "jobs.json", JobCounts)


def write_job_counts(worker_dir: Path, counts: JobCounts) -> None:
    """Write the handler's counts, without waiting for a disk.

    Replacing a file makes ext4 write it out first, which takes milliseconds of every job. Columns
    of fixed width are overwritten in one call instead; a reader sees old or new digits.

    Raises:
        OSError: they cannot be written.
    """
    text = (
        f'{{"running": {counts.running:6}, "done": {counts.done:12}, '
        f'"failed": {counts.failed:12}, "seconds": {counts.seconds:18.6f}}}'
    )
    descriptor = os.open(worker_dir / "jobs.json", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, text.encode(), 0)
    finally:
        os.close(descriptor)


def check_health(worker_dir: Path) -> tuple[bool, str]:
    """Return whether the worker is ready, and a sentence about it.

    Reads one file and sends no request: the supervisor watches the WebUI all the time.
    """
    state = read_state(worker_dir)
    if state.phase != "ready":
        return False, f"{state.phase}: {state.reason}" if state.reason else state.phase
    try:
        os.kill(state.supervisor, 0)
    except PermissionError:
        pass  # it runs as another user
    except OSError:
        return False, "the supervisor is gone"
    broken = ", ".join(name for name, reason in state.extensions.items() if reason)
    return True, f"ready, with broken extensions: {broken}" if broken else "ready"


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return kind(**{row.name: found[row.name] for row in fields(kind)})
    except (OSError, ValueError, KeyError, TypeError):
        return kind()
