"""The page's two charts: bars of seconds, and memory over time. Pure; colours are the style's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from scripts.host.console import size

if TYPE_CHECKING:
    from scripts.common.checks.report import Usage

_WIDTH: Final = 720
_HEIGHT: Final = 180
_LEFT: Final = 64  # room for the memory axis
_TOP: Final = 20  # room for the names of the phases


@dataclass(frozen=True)
class Bar:
    """A named span of seconds."""

    name: str
    start: float
    end: float


def spans(phases: Mapping[str, float]) -> tuple[Bar, ...]:
    """A bar for each phase of a start, from where the one before it ended."""
    ends = list(phases.values())
    return tuple(
        Bar(name, start, end)
        for (name, end), start in zip(phases.items(), [0.0, *ends], strict=False)
    )


def bars(shown: Sequence[Bar]) -> str:
    """A row for each bar: its name, the bar on a common scale, its seconds."""
    longest = max((bar.end for bar in shown), default=0.0) or 1.0
    rows = (
        f"<tr><th>{escape(bar.name)}</th><td class=track><div class=bar style="
        f'"margin-left:{100 * bar.start / longest:.2f}%;'
        f'width:{max(100 * (bar.end - bar.start) / longest, 0.4):.2f}%"></div></td>'
        f"<td class=number>{bar.end - bar.start:.1f} s</td></tr>"
        for bar in shown
    )
    return f"<table class=bars>{''.join(rows)}</table>" if shown else ""


def memory(samples: Sequence[Usage], phases: Mapping[str, float]) -> str:
    """Memory in use over time, with its peak and the moments at which phases were reached."""
    if len(samples) < 2:
        return ""
    end, peak = samples[-1].seconds or 1.0, max(sample.memory for sample in samples) or 1

    def x(seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * min(seconds / end, 1.0)

    def y(used: float) -> float:
        return _TOP + _HEIGHT * (1 - used / peak)

    line = " ".join(f"{x(each.seconds):.1f},{y(each.memory):.1f}" for each in samples)
    ground = f"{x(end):.1f},{y(0):.1f} {x(samples[0].seconds):.1f},{y(0):.1f}"
    levels = (
        f'<line class=grid x1="{_LEFT}" x2="{_WIDTH}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">'
        f"{size(round(level))}</text>"
        for level in (0, peak / 2, peak)
    )
    moments = (
        f'<line class=moment x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{_TOP}" y2="{y(0):.1f}"/>'
        f'<text x="{x(at) + 4:.1f}" y="{_TOP - 6}">{escape(name)} {at:.1f} s</text>'
        for name, at in _apart(phases, end)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_TOP + _HEIGHT + 24}" role="img">'
        f"<title>memory of the container: peak {size(peak)}</title>{''.join(levels)}"
        f'<polygon class=area points="{line} {ground}"/><polyline class=line points="{line}"/>'
        f'{"".join(moments)}<text x="{_LEFT}" y="{_TOP + _HEIGHT + 18}">0 s</text>'
        f'<text x="{_WIDTH}" y="{_TOP + _HEIGHT + 18}" text-anchor="end">{end:.0f} s</text></svg>'
    )


def _apart(phases: Mapping[str, float], end: float) -> list[tuple[str, float]]:
    """The phases whose names have room beside each other; of near ones the later counts."""
    kept: list[tuple[str, float]] = []
    for name, at in phases.items():
        if kept and at - kept[-1][1] < 0.18 * end:
            kept.pop()
        kept.append((name, at))
    return kept
