"""Keep the supervisor's state, and write every change where other processes read it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.container.log import log
from scripts.container.status import state


class StateRecorder:
    """The state of the worker.

    Args:
        worker_dir: folder of the file.
        initial: state that nothing is written about yet.
    """

    def __init__(self, worker_dir: Path, initial: state.State) -> None:
        self._worker_dir = worker_dir
        self.state = initial

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - any fields of State
        """Change fields, and write all of them; a failure is logged."""
        self.state = replace(self.state, **changes)
        try:
            state.write_state(self._worker_dir, self.state)
        except OSError as error:  # a full disk must not end a worker that can still draw
            phase, reason = self.state.phase, str(error)
            log("state-not-written", level="warning", phase=phase, reason=reason)

    def record_phase(self, name: str, since: float) -> None:
        """Record when a phase of the start was reached; it is written with the next change.

        Args:
            name: of the phase; `started` begins anew.
            since: monotonic time from which on it is counted.
        """
        earlier = {} if name == "started" else self.state.seconds
        seconds = {**earlier, name: round(max(time.monotonic() - since, 0.0), 3)}
        self.state = replace(self.state, seconds=seconds)
