"""Show models: their downloads as bars, timed lines or JSON events, and tables of files.

Light to import: a prefetch with nothing to do only prints a table.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import FINAL_STATES, ProgressCallback, VerifiedFile, no_progress
from scripts.common.units import size
from scripts.host.console import Throttle, console, is_live, note, say, table, terminal_width, warn

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from scripts.host.config.load import LoadedConfig
    from scripts.host.models.artifacts import Artifact
    from scripts.host.models.store import Store
    from scripts.host.models.store_maintenance import CheckedObject, Unused


class Display:
    """Show nothing; subclasses show downloads."""

    def progress(self, artifact: Artifact) -> ProgressCallback:
        """Return the `ProgressCallback` of one file."""
        return self.labelled(artifact.label, {"model": artifact.model.name, "file": artifact.file})

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
    last_state, throttle = "", Throttle(interval, first=0)

    def report_some(state: str, done: int, total: int | None, detail: str = "") -> None:
        nonlocal last_state
        if throttle.is_due() or state != last_state or state == "retrying":
            last_state = state
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

    def emit(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Write one event."""
        seconds = round(time.monotonic() - self._started, 3)
        say(json.dumps({"event": event, "seconds": seconds, **facts}))

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

    def labelled(self, label: str, _: Mapping[str, str]) -> ProgressCallback:
        """Add the bar of one file."""
        bar = self._progress.add_task(label, total=None, visible=False, state="")

        def report(state: str, done: int, total: int | None, detail: str = "") -> None:
            self._progress.update(
                bar, completed=done, total=total, state=state, visible=self._is_shown(state)
            )
            if detail:
                self._progress.console.print(f"{label}: {detail}", markup=False)
            self._sum_up()

        return report

    def _is_shown(self, state: str) -> bool:
        """Return whether a file has a bar: from its turn on, and then while there is room."""
        has_room = len(self._progress.tasks) < self._progress.console.height - 3
        return state != "queued" and (state not in FINAL_STATES or has_room)

    def _sum_up(self) -> None:
        _, *files = self._progress.tasks
        sizes = [file.total for file in files if file.total is not None]
        self._progress.update(
            self._total,
            completed=sum(file.completed for file in files),
            total=sum(sizes) if len(sizes) == len(files) else None,
            visible=len(files) > 1,
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


def file_facts(artifact: Artifact, file: VerifiedFile) -> dict[str, Any]:
    """Return the JSON fields of a verified file."""
    return {
        "model": artifact.model.name,
        "file": artifact.file,
        "path": str(file.path),
        "source": artifact.source,
        "revision": artifact.revision,
        "sha256": file.sha256,
        "size": file.size,
        "state": file.state,
        "took": round(file.seconds, 3),
        "moved": file.received,
    }


def prefetch_table(facts: Sequence[Mapping[str, Any]], width: int = 0) -> str:
    """Return the table that ends a prefetch, one row for the `file_facts` of each file."""
    several = Counter(each["model"] for each in facts)
    rows = []
    for each in facts:
        rate = each["moved"] and each["took"] and each["moved"] / each["took"] / 1e6
        rows.append(
            (
                each["model"] + (f"/{each['file']}" if several[each["model"]] > 1 else ""),
                size(each["size"]),
                each["source"],
                each["revision"][:8] or "-",
                each["sha256"][:8],
                each["state"],
                f"{each['took']:.1f}",
                f"{rate:.1f}" if rate else "-",
            )
        )
    header = ("model", "size", "source", "revision", "sha256", "state", "seconds", "MB/s")
    return table(header, rows, right=(1, 6, 7), width=width)


def models_table(loaded: LoadedConfig, store: Store) -> str:
    """Return one row a model of the config, and whether it is in the store."""
    from scripts.host.models.artifacts import artifacts_of

    rows = []
    for model in loaded.config.all_models:
        artifacts = artifacts_of(loaded, [model])
        sizes = [each.spec.size for each in artifacts]
        total = size(sum(each or 0 for each in sizes)) if all(sizes) else "-"
        pinned = all(each.is_pinned for each in artifacts)
        here = len(store.find_stored(artifacts)) == len(artifacts)
        kind = f"{model.actual_kind} {model.location.family}".rstrip()
        row = (model.name, kind, str(len(artifacts)), total, artifacts[0].source, model.placement)
        state = ("yes" if pinned else "no", "yes" if here else "no")
        rows.append((*row, model.target, model.licence or "-", *state))
    header = ("model", "kind", "files", "size", "source", "placement", "path", "licence")
    return table((*header, "pinned", "here"), rows, right=(3,), width=terminal_width())


def objects_table(checked: Iterable[CheckedObject]) -> str:
    """Return one row an object of the store, and whether it is whole."""
    rows = [
        (each.path.name[:16], " ".join(each.models), size(each.size), each.damage or "whole")
        for each in checked
    ]
    header = ("object", "models", "size", "state")
    return table(header, rows, right=(2,), width=terminal_width())


def unused_table(unused: Iterable[Unused], store: Store) -> str:
    """Return one row a file that may be deleted, and why."""
    rows = [
        (str(each.path.relative_to(store.root)), size(each.size), each.reason) for each in unused
    ]
    return table(("path", "size", "why"), rows, right=(1,))
