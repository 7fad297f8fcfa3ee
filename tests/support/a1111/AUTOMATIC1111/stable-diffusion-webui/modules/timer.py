"""The start-up phases, in the line that the WebUI prints about them."""

from __future__ import annotations

import time


class Timer:
    """Seconds since it was made, by phase."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()
        self.phases: dict[str, float] = {}

    def record(self, phase: str) -> None:
        """Everything since the last record was `phase`."""
        now = time.monotonic()
        self.phases[phase] = now - self.last
        self.last = now

    def summary(self) -> str:
        """As in `5.2s (import torch: 4.1s, create API: 1.1s)`."""
        phases = ", ".join(f"{phase}: {seconds:.1f}s" for phase, seconds in self.phases.items())
        return f"{self.last - self.start:.1f}s ({phases})"
