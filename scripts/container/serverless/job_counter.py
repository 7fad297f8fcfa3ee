"""Count jobs where the supervisor and the metrics read it."""

import contextlib
import threading
from pathlib import Path

from scripts.container.status.state import JobCounts, write_job_counts


class JobCounter:
    """Counts of one handler's jobs; it begins with zeros.

    Args:
        worker_dir: folder of the worker's state.
    """

    def __init__(self, worker_dir: Path) -> None:
        self._worker_dir = worker_dir
        self._counts, self._lock = JobCounts(), threading.Lock()
        self.add()

    def add(self, running: int = 0, done: int = 0, failed: int = 0, seconds: float = 0) -> None:
        """Add to the counts, and write them."""
        with self._lock:
            old = self._counts
            self._counts = JobCounts(
                running=old.running + running,
                done=old.done + done,
                failed=old.failed + failed,
                seconds=old.seconds + seconds,
            )
            with contextlib.suppress(OSError):  # a full disk must not fail a job
                write_job_counts(self._worker_dir, self._counts)
