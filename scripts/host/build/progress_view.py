"""Shows a build while it runs: a live list on a terminal, one line a finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scripts.host.build.progress import Progress, Step, shown
from scripts.host.console import console, is_live, note

if TYPE_CHECKING:
    from rich.console import Group

WIDTH = 100
STAGE_WIDTH = len("build_final_image")
MOST_RUNNING = 6


def line(step: Step) -> str:
    """A finished step as one line: seconds or what else became of it, then its name."""
    state = "failed" if step.error else "cached" if step.cached else f"{step.seconds:.1f}s"
    return f"{state:>8}  {title(step)}"


def title(step: Step) -> str:
    """A step in one short line: its stage and the instruction."""
    text = f"{step.stage:<{STAGE_WIDTH}}  {step.instruction}" if step.stage else step.instruction
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


class View:
    """Where a build is shown; `feed` is called with the steps that just finished."""

    def __init__(self, progress: Progress, *, quiet: bool = False) -> None:
        self._progress, self._quiet = progress, quiet

    def feed(self, finished: tuple[Step, ...]) -> None:
        """Show what just finished."""
        for step in shown(finished):
            if not self._quiet:
                note(line(step))

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the list of running steps at the foot of a terminal while inside."""
        if self._quiet or not is_live():
            yield
            return
        from rich.live import Live

        with Live(
            get_renderable=self._running, console=console(), refresh_per_second=5, transient=True
        ):
            yield

    def _running(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        now = time.time()
        rows = [
            Text(f"{now - step.started:7.0f}s  {title(step)}", "cyan")
            for step in self._progress.running[:MOST_RUNNING]
        ]
        done = sum(1 for step in self._progress.steps.values() if step.completed)
        return Group(*rows, Text(f"{done} of {len(self._progress.steps)} steps", "dim"))
