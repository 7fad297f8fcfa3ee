"""Render the smoke report as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.common.units import size

if TYPE_CHECKING:
    from scripts.common.checks.smoke_report import SmokeReport

_GROUPS: Final = {
    "image": "The image itself",
    "start": "The container's start",
    "gpu": "The GPU",
    "serving": "The API",
    "end": "After the jobs",
    "": "Others",
}


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
    )
    groups = {
        title: [check for check in report.checks if check.group == group]
        for group, title in _GROUPS.items()
    }
    return environment.get_template("smoke_page.html.j2").render(
        report=report,
        images={name: base64.b64encode(png).decode() for name, png in images.items()},
        groups=groups,
        durations=[(title, sum(each.seconds for each in group)) for title, group in groups.items()],
        spans=phase_spans(report.phases),
        log_lines=log.strip().splitlines(),
        size=size,
        spaced=_spaced,
    )


def phase_spans(phases: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the seconds of each phase, from the end of the one before it.

    Args:
        phases: seconds at which each phase ended.
    """
    starts = (0.0, *phases.values())
    return [(name, end - start) for (name, end), start in zip(phases.items(), starts, strict=False)]


def _spaced(phases: Mapping[str, float], end: float) -> list[tuple[str, float]]:
    """Choose the phases whose names have room beside each other; of near ones the later."""
    kept: list[tuple[str, float]] = []
    for name, seconds in phases.items():
        if kept and seconds - kept[-1][1] < 0.18 * end:
            kept.pop()
        kept.append((name, seconds))
    return kept
