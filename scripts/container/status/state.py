"""What the worker's processes tell each other: two small files below WORKER_DIR.

`state.json` is written by the supervisor alone, `jobs.json` by the handler alone. No reader ever
sees half of one.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

PHASES: Final = ("starting", "loading", "ready", "restarting", "draining", "stopped")


@dataclass(frozen=True)
class State:
    """How the worker is.

    Args:
        phase: one of PHASES. `loading`: the API answers, no picture was drawn yet.
        supervisor: its process id.
        server: the WebUI's process id, 0 when it does not run.
        restarts: how often the WebUI was started again.
        reason: why it is not ready, empty when nothing is wrong.
        seconds: start-up phases by name.
        pip_cache: pip's cache, on the volume or where there was room; empty before that is known.
    """

    phase: str = "stopped"
    supervisor: int = 0
    server: int = 0
    restarts: int = 0
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    pip_cache: str = ""


@dataclass(frozen=True)
class Jobs:
    """What the handler has done.

    Args:
        running: jobs at work now.
        done: jobs that ended well.
        failed: jobs that ended in an error.
        seconds: time spent in jobs that have ended.
    """

    running: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0


Record = TypeVar("Record", State, Jobs)


def read_state(worker_dir: Path) -> State:
    """The supervisor's last word; `stopped` where there is none."""
    return _read(worker_dir / "state.json", State)


def write_state(worker_dir: Path, state: State) -> None:
    """Say how the worker is."""
    _write(worker_dir / "state.json", state)


def read_jobs(worker_dir: Path) -> Jobs:
    """The handler's last word; nothing done where there is none."""
    return _read(worker_dir / "jobs.json", Jobs)


def write_jobs(worker_dir: Path, jobs: Jobs) -> None:
    """Say what was done: each job does so, and must not wait for a disk.

    Replacing a file makes ext4 write it out first, which takes milliseconds. Columns of fixed width
    are written over the old ones in one call instead; a reader in between sees old or new digits.
    """
    text = (
        f'{{"running": {jobs.running:6}, "done": {jobs.done:12}, "failed": {jobs.failed:12}, '
        f'"seconds": {jobs.seconds:18.6f}}}'
    )
    record = os.open(worker_dir / "jobs.json", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(record, text.encode(), 0)
    finally:
        os.close(record)


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return kind(**{key: found[key] for key in (row.name for row in fields(kind))})
    except (OSError, ValueError, KeyError, TypeError):
        return kind()


def _write(path: Path, record: State | Jobs) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
    partial.replace(path)
