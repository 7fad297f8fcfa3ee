"""Shows downloads: bars on a terminal, timed lines elsewhere, or one JSON event a line for CI."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from scripts.common.wanted import Watch
from scripts.host.config.load import Loaded
from scripts.host.console import console, is_live, note, say, size, table, warn
from scripts.host.models import receipt
from scripts.host.models.plan import Item

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from scripts.host.models.prefetch import Result

_EVERY = 5.0  # seconds between two plain lines about one file
_BRIEF = 0.5  # seconds between two JSON progress events about one file


class Display(Protocol):
    """Somewhere to show downloads."""

    def watch(self, item: Item) -> Watch:
        """The `Watch` of one file."""

    def warn(self, text: str) -> None:
        """Say what a person should know."""

    def finish(self, results: Sequence[Result]) -> None:
        """Print the results, once nothing moves any more."""


@contextmanager
def display(*, as_json: bool = False) -> Iterator[Display]:
    """The display that fits: JSON where asked for, bars on a terminal, lines elsewhere."""
    if as_json:
        yield JsonEvents()
    elif is_live():
        with _bars() as bars:
            yield bars
    else:
        yield Lines()


def label(item: Item) -> str:
    """How a display calls a file."""
    return f"{item.model.name}/{item.file}"


class _Rhythm:
    """Lets the first event of each state through, then one every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._state, self._last = seconds, "", 0.0

    def allows(self, state: str) -> bool:
        now = time.monotonic()
        if state == self._state and state != "retrying" and now - self._last < self._seconds:
            return False
        self._state, self._last = state, now
        return True


class Lines:
    """Plain lines with the seconds since the beginning."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def watch(self, item: Item) -> Watch:
        """Lines about one file."""
        rhythm = _Rhythm(_EVERY)

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            if state != "connecting" and rhythm.allows(state):
                of = f" {size(done)} of {size(total)}" if total else ""
                more = f": {detail}" if detail else ""
                seconds = time.monotonic() - self._begun
                note(f"{seconds:7.1f}s {label(item)} {state}{of}{more}")

        return tell

    def warn(self, text: str) -> None:
        """One warning line."""
        warn(text)

    def finish(self, results: Sequence[Result]) -> None:
        """The table."""
        say(result_table(results))


class JsonEvents:
    """One JSON object a line on standard output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def emit(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Write one event."""
        seconds = round(time.monotonic() - self._begun, 3)
        with self._lock:
            print(json.dumps({"event": event, "seconds": seconds, **facts}), flush=True)

    def watch(self, item: Item) -> Watch:
        """Events about one file."""
        rhythm = _Rhythm(_BRIEF)

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            if rhythm.allows(state):
                facts = {"model": item.model.name, "file": item.file, "done": done, "total": total}
                self.emit(state, **facts, **({"detail": detail} if detail else {}))

        return tell

    def warn(self, text: str) -> None:
        """A warning as an event."""
        self.emit("warning", detail=text)

    def finish(self, results: Sequence[Result]) -> None:
        """One event a verified file, then the end."""
        for result in results:
            self.emit("ready", **facts_of(result))
        self.emit("done")


class _Bars:
    """A bar for each file and one for all of them, with speed and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total = progress.add_task("total", total=None, visible=False)
        self._known: dict[TaskID, int] = {}
        self._done: dict[TaskID, int] = {}
        self._lock = threading.Lock()

    def watch(self, item: Item) -> Watch:
        """The bar of one file."""
        name = label(item)
        bar = self._progress.add_task(name, total=None)

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            word = "" if state == "fetching" else f" [{state}]"
            self._progress.update(
                bar, description=f"{name}{word}", completed=done, total=total, refresh=False
            )
            if state == "retrying":
                self._progress.console.print(f"{name}: {detail}", markup=False)
            with self._lock:
                self._done[bar], self._known[bar] = done, total or done
                self._progress.update(
                    self._total,
                    completed=sum(self._done.values()),
                    total=sum(self._known.values()),
                    visible=len(self._known) > 1,
                )

        return tell

    def warn(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(f"warning: {text}", markup=False)

    def finish(self, results: Sequence[Result]) -> None:
        """The table."""
        say(result_table(results))


@contextmanager
def _bars() -> Iterator[_Bars]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
    )
    with progress.Progress(*columns, console=console(), transient=True) as live:
        yield _Bars(live)


def facts_of(result: Result) -> dict[str, Any]:
    """A result as JSON holds it."""
    return {
        "model": result.item.model.name,
        "file": result.item.file,
        "path": str(result.path),
        "source": result.item.shown_source,
        "revision": result.item.revision,
        "sha256": result.sha256,
        "size": result.size,
        "state": result.state,
        "took": round(result.seconds, 3),
        "moved": result.moved,
    }


def result_table(results: Sequence[Result]) -> str:
    """The table at the end of a prefetch."""
    header = ("model", "size", "source", "revision", "sha256", "state", "seconds", "MB/s")
    rows = [
        (
            label(result.item),
            size(result.size),
            result.item.shown_source,
            result.item.revision[:10] or "-",
            result.sha256[:10],
            result.state,
            f"{result.seconds:.1f}",
            f"{result.moved / result.seconds / 1e6:.0f}" if result.moved else "-",
        )
        for result in results
    ]
    return table(header, rows, right=(1, 6, 7))


def leave_receipt(key: str, loaded: Loaded, results: Sequence[Result]) -> None:
    """Let the next prefetch of the same, pinned files be over at once."""
    if all(result.item.is_pinned or result.item.origin for result in results):
        cached = [replace(result, state="cached", moved=0, seconds=0.0) for result in results]
        names = [
            loaded.store / "names" / result.item.model.name / result.item.file for result in results
        ]
        files = [*(result.path for result in results), *names]
        events = [{"event": "ready", "seconds": 0.0, **facts_of(each)} for each in cached]
        done = {"event": "done", "seconds": 0.0}
        receipt.write(key, files, result_table(cached), map(json.dumps, [*events, done]))
