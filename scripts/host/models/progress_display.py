"""Shows downloads: bars on a terminal, timed lines elsewhere, or one JSON event a line for CI."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ProgressCallback
from scripts.host.config.load import LoadedConfig
from scripts.host.console import console, is_live, note, say, size, warn
from scripts.host.models import receipt
from scripts.host.models.outcome import facts_of, named, row_of, table_of

if TYPE_CHECKING:
    from scripts.host.models.artifacts import Item
    from scripts.host.models.prefetch import Result

_EVERY = 5.0  # seconds between two plain lines about one file
_BRIEF = 0.5  # seconds between two JSON progress events about one file


class Display(Protocol):
    """Somewhere to show downloads."""

    def watch(self, label: str, facts: Mapping[str, str], /) -> ProgressCallback:
        """The `ProgressCallback` of one file: its name for people, and for machines."""

    def warn(self, text: str) -> None:
        """Say what a person should know."""

    def finish(self, results: Sequence[Result]) -> None:
        """Print the results, once nothing moves any more."""


@contextmanager
def display(*, as_json: bool = False, plain: bool = False) -> Iterator[Display]:
    """The display that fits: JSON where asked for, bars on a terminal, lines elsewhere."""
    if as_json:
        events = JsonEvents()
        try:
            yield events
        except UserError as failure:
            events.emit("error", code=failure.code, detail=str(failure))
            raise
    elif is_live() and not plain:
        from scripts.host.models.progress_bars import bars

        with bars(console()) as shown:
            yield shown
    else:
        yield Lines()


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

    def watch(self, label: str, _: Mapping[str, str]) -> ProgressCallback:
        """Lines about one file."""
        rhythm = _Rhythm(_EVERY)

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            if state not in ("queued", "connecting") and rhythm.allows(state):
                of = f" {size(done)} of {size(total)}" if total else ""
                more = f": {detail}" if detail else ""
                seconds = time.monotonic() - self._begun
                note(f"{seconds:7.1f}s {label} {state}{of}{more}")

        return tell

    def warn(self, text: str) -> None:
        """One warning line."""
        warn(text)

    def finish(self, results: Sequence[Result]) -> None:
        """The table."""
        say(table_of(map(row_of, results)))


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

    def watch(self, _: str, facts: Mapping[str, str]) -> ProgressCallback:
        """Events about one file."""
        rhythm = _Rhythm(_BRIEF)

        def tell(state: str, done: int, total: int | None, detail: str = "") -> None:
            if rhythm.allows(state):
                more = {"detail": detail} if detail else {}
                self.emit(state, **facts, done=done, total=total, **more)

        return tell

    def warn(self, text: str) -> None:
        """A warning as an event."""
        self.emit("warning", detail=text)

    def finish(self, results: Sequence[Result]) -> None:
        """One event a verified file, then the end."""
        for result in results:
            self.emit("ready", **facts_of(result))
        self.emit("done")


def prefetch_shown(
    loaded: LoadedConfig,
    names: Collection[str] = (),
    *,
    as_json: bool = False,
    rehash: bool = False,
    trust_on_first_use: bool = False,
    summary: bool = True,
    plain: bool = False,
) -> tuple[Result, ...]:
    """`prefetch`, with everything that a person or a machine wants to see of it.

    Args:
        loaded: config and lock.
        names: as `prefetch` takes them.
        as_json: JSON events on standard output instead.
        rehash: as `Manner` has it.
        trust_on_first_use: as `Manner` has it.
        summary: print a table of the results at the end.
        plain: show progress as lines, on a terminal too.

    Raises:
        UserError: as `prefetch` does.
    """
    from scripts.host.models.prefetch import Manner, prefetch

    with display(as_json=as_json, plain=plain) as shown:

        def watch(item: Item) -> ProgressCallback:
            return shown.watch(item.label, named(item))

        manner = Manner(rehash, trust_on_first_use, shown.warn, watch)
        results = prefetch(loaded, names, manner=manner)
    if summary:
        shown.finish(results)
    return results


def leave_receipt(key: str, loaded: LoadedConfig, results: Sequence[Result]) -> None:
    """Let the next prefetch of the same, pinned files be over at once."""
    if all(result.item.is_pinned or result.item.origin for result in results):
        cached = [replace(result, state="cached", moved=0, seconds=0.0) for result in results]
        names = [
            loaded.store / "names" / result.item.model.name / result.item.file for result in results
        ]
        files = [*(result.path for result in results), *names]
        events = [{"event": "ready", "seconds": 0.0, **facts_of(each)} for each in cached]
        done = {"event": "done", "seconds": 0.0}
        receipt.write(key, files, map(row_of, cached), map(json.dumps, [*events, done]))
