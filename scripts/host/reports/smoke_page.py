"""Render the smoke report as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.common.units import size

if TYPE_CHECKING:
    from scripts.common.checks.smoke_report import MemorySample, SmokeReport

_TEMPLATE: Final = "smoke_page.html.j2"
_GROUPS: Final = {
    "image": "The image itself",
    "start": "The container's start",
    "gpu": "The GPU",
    "serving": "The API",
    "end": "After the jobs",
}
_LOG_LINES: Final = 400
_SHORTEST_BAR: Final = 0.4  # percent


@dataclass(frozen=True)
class Bar:
    """A span of seconds on a chart: its place and width are percent of the longest time."""

    name: str
    seconds: float
    left: float
    width: float


@dataclass(frozen=True)
class MemoryChart:
    """Coordinates of the chart of memory over time, in the units of its view box.

    Args:
        peak: bytes.
        end: seconds of the last sample.
        points: of the line, `x,y x,y …`.
        ground: points that close the area below the line.
        levels: bytes and y of each grid line.
        phases: name, seconds and x of each phase that was reached.
    """

    peak: int
    end: float
    points: str
    ground: str
    levels: tuple[tuple[float, float], ...]
    phases: tuple[tuple[str, float, float], ...]
    left: int = 64  # room for the labels of the levels
    right: int = 720
    top: int = 20  # room for the names of the phases
    bottom: int = 200


def render_page(report: SmokeReport, images: Mapping[str, bytes], log: str = "") -> str:
    """Render the page.

    Args:
        report: of the run.
        images: PNGs by file name.
        log: of the container; the page holds the end of a long one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    groups = {
        title: [check for check in report.ran if check.group == group]
        for group, title in {**_GROUPS, "": "Others"}.items()
    }
    durations = {
        _GROUPS[group]: sum(check.seconds for check in report.checks if check.group == group)
        for group in _GROUPS
    }
    return environment.get_template(_TEMPLATE).render(
        report=report,
        verdict=_verdict(report),
        counts=_counts(report),
        subject=_subject(report),
        machine=_machine(report),
        images=[(_caption(name, report), _data_url(png)) for name, png in images.items()],
        groups=list(groups.items()),
        phases=phase_bars(report.phases),
        durations=_bars({name: seconds for name, seconds in durations.items() if seconds}),
        memory=memory_chart(report.memory, report.phases),
        log_lines=log.strip().splitlines(),
        shown_log_lines=_LOG_LINES,
        size=size,
    )


def phase_bars(phases: Mapping[str, float]) -> list[Bar]:
    """Make a bar for each phase, from the end of the one before it.

    Args:
        phases: seconds at which each phase ended.
    """
    starts = [0.0, *phases.values()]
    return _bars(
        {name: end - start for (name, end), start in zip(phases.items(), starts, strict=False)}
    )


def memory_chart(
    samples: Sequence[MemorySample], phases: Mapping[str, float]
) -> MemoryChart | None:
    """Lay out the chart of memory; None for fewer than two samples."""
    if len(samples) < 2:
        return None
    size_of = MemoryChart
    end, peak = samples[-1].seconds or 1.0, max(sample.memory for sample in samples) or 1

    def x(seconds: float) -> float:
        return size_of.left + (size_of.right - size_of.left) * min(seconds / end, 1.0)

    def y(memory: float) -> float:
        return size_of.bottom - (size_of.bottom - size_of.top) * memory / peak

    return MemoryChart(
        peak,
        end,
        points=" ".join(f"{x(each.seconds):.1f},{y(each.memory):.1f}" for each in samples),
        ground=f"{x(end):.1f},{y(0):.1f} {x(samples[0].seconds):.1f},{y(0):.1f}",
        levels=tuple((level, y(level)) for level in (0, peak / 2, peak)),
        phases=tuple((name, at, x(at)) for name, at in _apart(phases, end)),
    )


def _bars(seconds: Mapping[str, float]) -> list[Bar]:
    """Place bars one after the other."""
    total = sum(seconds.values()) or 1.0
    bars, left = [], 0.0
    for name, duration in seconds.items():
        width = 100 * duration / total
        bars.append(Bar(name, duration, left, max(width, _SHORTEST_BAR)))
        left += width
    return bars


def _apart(phases: Mapping[str, float], end: float) -> list[tuple[str, float]]:
    """Choose the phases whose names have room beside each other; of near ones the later."""
    kept: list[tuple[str, float]] = []
    for name, seconds in phases.items():
        if kept and seconds - kept[-1][1] < 0.18 * end:
            kept.pop()
        kept.append((name, seconds))
    return kept


def _verdict(report: SmokeReport) -> str:
    if report.passed:
        return "passed"
    return "failed" if report.failures else "not proven"


def _counts(report: SmokeReport) -> str:
    outcomes = [check.outcome for check in report.checks]
    return ", ".join(
        f"{count} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if (count := outcomes.count(outcome))
    )


def _subject(report: SmokeReport) -> list[tuple[str, str]]:
    labels = {name.rpartition(".")[2]: value for name, value in report.labels.items()}
    identified = bool(report.image_id)
    return [
        ("Name", report.image),
        ("ID", report.image_id or "not known: an address was tested"),
        ("Digests", ", ".join(report.digests) or ("not pushed" if identified else "")),
        ("Variant", report.variant if identified else ""),
        *report.versions.items(),
        ("Revision", labels.get("revision", "")),
        ("Built from", labels.get("created", "")),
    ]


def _machine(report: SmokeReport) -> list[tuple[str, str]]:
    host = report.host
    return [
        ("GPU", "; ".join(map(str, report.gpus)) or "none was given"),
        ("Host", host.name),
        ("System", host.system),
        ("Kernel", host.kernel),
        ("Size", f"{host.processors} processors, {size(host.memory)}" if host.processors else ""),
        ("Docker", host.engine),
    ]


def _caption(file_name: str, report: SmokeReport) -> str:
    return file_name.removeprefix(f"smoke-{report.variant}-").removesuffix(".png")


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
