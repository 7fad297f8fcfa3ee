"""Shows downloads on a terminal: a bar for each file and one for all, with speed and time left."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scripts.common.fetch.artifact import ENDED, ProgressCallback
from scripts.host.console import say
from scripts.host.models.outcome import row_of, table_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from scripts.host.models.prefetch import Result


class Bars:
    """A `Display` that moves.

    Args:
        progress: where the bars are.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total = progress.add_task("total", total=None, visible=False, state="")
        self._sizes: dict[TaskID, int | None] = {}
        self._done: dict[TaskID, int] = {}
        self._lock = threading.Lock()

    def watch(self, label: str, _: Mapping[str, str]) -> ProgressCallback:
        """The bar of one file."""
        bar = self._progress.add_task(label, total=None, visible=False, state="")

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            self._progress.update(
                bar, completed=done, total=total, state=state, visible=self._is_shown(state)
            )
            if detail:
                self._progress.console.print(f"{label}: {detail}", markup=False)
            with self._lock:
                self._done[bar], self._sizes[bar] = done, total
                self._sum_up()

        return tell

    def _is_shown(self, state: str) -> bool:
        """What waits for its turn has no bar, and what has ended keeps it while there is room."""
        has_room = len(self._sizes) < self._progress.console.height - 4
        return state != "queued" and (state not in ENDED or has_room)

    def _sum_up(self) -> None:
        sizes = [size for size in self._sizes.values() if size is not None]
        self._progress.update(
            self._total,
            completed=sum(self._done.values()),
            total=sum(sizes) if len(sizes) == len(self._sizes) else None,
            visible=len(self._sizes) > 1,
        )

    def warn(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(f"warning: {text}", markup=False)

    def finish(self, results: Sequence[Result]) -> None:
        """The table."""
        say(table_of(map(row_of, results)))


@contextmanager
def bars(terminal: Console) -> Iterator[Bars]:
    """Bars until the block ends; each takes one line, however narrow the terminal is."""
    from rich import progress
    from rich.table import Column

    label = Column(no_wrap=True, overflow="ellipsis", max_width=max(16, terminal.width // 3))
    columns = (
        progress.TextColumn("{task.description}", markup=False, table_column=label),
        progress.TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True)),
        progress.BarColumn(bar_width=None, table_column=Column(ratio=1)),
        progress.DownloadColumn(table_column=Column(no_wrap=True, justify="right")),
        progress.TransferSpeedColumn(table_column=Column(no_wrap=True, justify="right")),
        progress.TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    with progress.Progress(*columns, console=terminal, transient=True, expand=True) as live:
        yield Bars(live)
