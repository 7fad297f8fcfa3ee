"""The smoke report as one page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from scripts.common.findings import FINDINGS
from scripts.host.console import size

if TYPE_CHECKING:
    from scripts.host.smoke.report import Check, SmokeReport, Usage

_WIDTH: Final = 640
_HEIGHT: Final = 160
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem;
  color: #1c2024; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.passed { color: #18794e } .failed { color: #cd2b31 } .skipped { color: #687076 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-bottom: 1px solid #e6e8eb }
td.number { text-align: right; white-space: nowrap }
pre { background: #f8f9fa; padding: .6rem; overflow-x: auto; font-size: 12px }
figure { display: inline-block; margin: 0 1rem 1rem 0 }
figure img { width: 192px; image-rendering: pixelated; border: 1px solid #e6e8eb }
svg text { font: 12px system-ui, sans-serif; fill: #687076 }
"""


def page(report: SmokeReport, pictures: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        report: what is told.
        pictures: PNGs by file name.
    """
    verdict = "passed" if report.passed else "failed"
    parts = [
        f"<h1>{escape(report.image or 'a worker')}: <span class={verdict}>{verdict}</span></h1>",
        _facts(report),
        _section("Pictures", _pictures(pictures)),
        _section("Checks", _checks(report.checks)),
        _section("Start, seconds by phase", _phases(report.phases)),
        _section("Memory of the container", _memory(report.memory)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>smoke {escape(report.variant)}: {verdict}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _facts(report: SmokeReport) -> str:
    counts = ", ".join(
        f"{number} {word}"
        for word in ("passed", "failed", "skipped")
        if (number := sum(check.outcome == word for check in report.checks))
    )
    rows = [
        ("variant", report.variant),
        ("image ID", report.image_id or "not known: an address was tested"),
        ("GPU", report.gpu or "none"),
        ("host", report.host),
        ("checks", counts),
        *((name.rpartition(".")[2], value) for name, value in sorted(report.labels.items())),
    ]
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _pictures(pictures: Mapping[str, bytes]) -> str:
    return "".join(
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{escape(name)}</figcaption></figure>'
        for name, png in pictures.items()
    )


def _checks(checks: Sequence[Check]) -> str:
    return f"<table>{''.join(map(_check, checks))}</table>"


def _check(check: Check) -> str:
    told = escape(check.evidence)
    if finding := FINDINGS.get(check.code):
        told += f"<br><strong>{check.code}</strong>: {escape(finding.sentence)}"
        told += f" <em>{escape(finding.cure)}</em>"
    if check.excerpt:
        told += f"<pre>{escape(check.excerpt)}</pre>"
    return (
        f"<tr><td class={check.outcome}>{check.outcome}</td><td>{escape(check.name)}</td>"
        f"<td class=number>{check.seconds:.1f} s</td><td>{told}</td></tr>"
    )


def _phases(phases: Mapping[str, float]) -> str:
    """One bar a phase, from where the one before it ended."""
    if not phases:
        return ""
    longest = max(*phases.values(), 0.001)
    bars, before = [], 0.0
    for row, (name, seconds) in enumerate(phases.items()):
        left, right = (_WIDTH * value / longest for value in (before, seconds))
        bars.append(
            f'<rect x="{left:.1f}" y="{row * 24 + 4}" width="{max(right - left, 1):.1f}" '
            f'height="16" fill="#70b8ff"/>'
            f'<text x="{_WIDTH + 8}" y="{row * 24 + 17}">{escape(name)} {seconds:.1f} s</text>'
        )
        before = seconds
    return _svg(_WIDTH + 160, 24 * len(phases) + 8, "".join(bars))


def _memory(samples: Sequence[Usage]) -> str:
    """A line from start to end, with its peak said in words."""
    if len(samples) < 2:
        return ""
    end, peak = samples[-1].seconds or 1, max(sample.memory for sample in samples) or 1
    points = " ".join(
        f"{_WIDTH * sample.seconds / end:.1f},{_HEIGHT - _HEIGHT * sample.memory / peak + 8:.1f}"
        for sample in samples
    )
    line = f'<polyline points="{points}" fill="none" stroke="#0090ff" stroke-width="2"/>'
    words = f'<text x="{_WIDTH + 8}" y="20">peak {size(peak)}</text>'
    words += f'<text x="{_WIDTH + 8}" y="{_HEIGHT}">{end:.0f} s</text>'
    return _svg(_WIDTH + 160, _HEIGHT + 16, line + words)


def _svg(width: int, height: int, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">{content}</svg>'
    )
