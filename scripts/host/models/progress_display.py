"""Show downloads: bars on a terminal, timed lines elsewhere, or one JSON event a line for CI."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import FINAL_STATES, ProgressCallback, VerifiedFile, no_progress
from scripts.common.units import size
from scripts.host.console import console, is_live, note, say, terminal_width, warn
from scripts.host.models.artifacts import Artifact
from scripts.host.models.model_tables import file_facts, name_facts, prefetch_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Display:
    """Show nothing; subclasses show downloads."""

    def progress(self, artifact: Artifact) -> ProgressCallback:
        """Return the `ProgressCallback` of one file."""
        return self.labelled(artifact.label, name_facts(artifact))

    def labelled(self, label: str, facts: Mapping[str, str], /) -> ProgressCallback:  # noqa: ARG002 - for subclasses
        """Return the `ProgressCallback` of a file with a name for people and one for machines."""
        return no_progress

    def warn(self, text: str) -> None:
        """Show a warning."""

    def finish(self, files: Mapping[Artifact, VerifiedFile]) -> None:
        """Print the results, once nothing moves any more."""


@contextmanager
def open_display(*, as_json: bool = False, plain: bool = False) -> Iterator[Display]:
    """Choose a display: JSON or plain lines on request, bars on a terminal, lines elsewhere."""
    if as_json:
        events = JsonEvents()
        try:
            yield events
        except UserError as error:
            events.emit("error", code=error.code, detail=str(error))
            raise
    elif is_live() and not plain:
        with bars(console()) as shown:
            yield shown
    else:
        yield Lines()


def throttled(report: ProgressCallback, interval: float) -> ProgressCallback:
    """Pass on the first update of each state and every retry, else one every `interval` seconds."""
    last_state, last_time = "", 0.0

    def report_some(state: str, done: int, total: int | None, detail: str = "") -> None:
        nonlocal last_state, last_time
        now = time.monotonic()
        if state != last_state or state == "retrying" or now - last_time >= interval:
            last_state, last_time = state, now
            report(state, done, total, detail)

    return report_some


class Lines(Display):
    """Plain lines with the seconds since the beginning."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def labelled(self, label: str, _: Mapping[str, str]) -> ProgressCallback:
        """Print updates of one file."""

        def report(state: str, done: int, total: int | None, detail: str = "") -> None:
            of = f" {size(done)} of {size(total)}" if total else ""
            more = f": {detail}" if detail else ""
            seconds = time.monotonic() - self._started
            if state not in ("queued", "connecting"):
                note(f"{seconds:7.1f}s {label} {state}{of}{more}")

        return throttled(report, interval=5.0)

    def warn(self, text: str) -> None:
        """Print a warning line."""
        warn(text)

    def finish(self, files: Mapping[Artifact, VerifiedFile]) -> None:
        """Print the table."""
        facts = [file_facts(*each) for each in files.items()]
        say(prefetch_table(facts, terminal_width()))


class JsonEvents(Display):
    """One JSON object a line on standard output."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def emit(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Write one event."""
        seconds = round(time.monotonic() - self._started, 3)
        with self._lock:
            print(json.dumps({"event": event, "seconds": seconds, **facts}), flush=True)

    def labelled(self, _: str, facts: Mapping[str, str]) -> ProgressCallback:
        """Write updates of one file as events."""

        def report(state: str, done: int, total: int | None, detail: str = "") -> None:
            more = {"detail": detail} if detail else {}
            self.emit(state, **facts, done=done, total=total, **more)

        return throttled(report, interval=0.5)

    def warn(self, text: str) -> None:
        """Write a warning as an event."""
        self.emit("warning", detail=text)

    def finish(self, files: Mapping[Artifact, VerifiedFile]) -> None:
        """Write one event for each verified file, then the end."""
        for artifact, file in files.items():
            self.emit("ready", **file_facts(artifact, file))
        self.emit("done")


class Bars(Lines):
    """Bars that move: one for each file, and one for all.

    Args:
        progress: where the bars are.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._total = progress.add_task("total", total=None, visible=False, state="")
        self._sizes: dict[TaskID, int | None] = {}
        self._done: dict[TaskID, int] = {}
        self._lock = threading.Lock()

    def labelled(self, label: str, _: Mapping[str, str]) -> ProgressCallback:
        """Add the bar of one file."""
        bar = self._progress.add_task(label, total=None, visible=False, state="")

        def report(state: str, done: int, total: int | None, detail: str = "") -> None:
            self._progress.update(
                bar, completed=done, total=total, state=state, visible=self._is_shown(state)
            )
            if detail:
                self._progress.console.print(f"{label}: {detail}", markup=False)
            with self._lock:
                self._done[bar], self._sizes[bar] = done, total
                self._sum_up()

        return report

    def _is_shown(self, state: str) -> bool:
        """Return whether a file has a bar: from its turn on, and then while there is room."""
        has_room = len(self._sizes) < self._progress.console.height - 4
        return state != "queued" and (state not in FINAL_STATES or has_room)

    def _sum_up(self) -> None:
        sizes = [size for size in self._sizes.values() if size is not None]
        self._progress.update(
            self._total,
            completed=sum(self._done.values()),
            total=sum(sizes) if len(sizes) == len(self._sizes) else None,
            visible=len(self._sizes) > 1,
        )

    def warn(self, text: str) -> None:
        """Print a warning line above the bars."""
        self._progress.console.print(f"warning: {text}", markup=False)


@contextmanager
def bars(terminal: Console) -> Iterator[Bars]:
    """Show bars until the block ends; each takes one line, however narrow the terminal is."""
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
