"""The smoke report as one page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from scripts.common.diagnostics.table import diagnostics
from scripts.host.console import size
from scripts.host.reports import charts

if TYPE_CHECKING:
    from scripts.common.checks.report import Check, SmokeReport

# A browser that obeys this loads nothing, even if a log line held markup that slipped through.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_GROUPS: Final = {
    "image": "The image itself",
    "start": "The container's start",
    "gpu": "The GPU",
    "serving": "The API",
    "end": "After the jobs",
}
_LOG_LINES: Final = 400
_STYLE: Final = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --line: #e0e3e7;
  --page: #fff; --card: #f6f7f9; --good: #18794e; --bad: #c62a2f; --ink: #0b76d1 }
@media (prefers-color-scheme: dark) { :root { --text: #eceef0; --soft: #a0a5ad; --line: #33373d;
  --page: #16181b; --card: #1f2226; --good: #4cc38a; --bad: #ff6369; --ink: #52a9ff } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1.5rem;
  color: var(--text); background: var(--page) }
h1 { font-size: 1.45rem; line-height: 1.3; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem }
p { margin: .3rem 0 } .soft { color: var(--soft) }
.passed { color: var(--good) } .failed { color: var(--bad) } .skipped { color: var(--soft) }
header { border-left: 6px solid; padding-left: 1rem }
header > * { color: var(--text) } header .soft { color: var(--soft) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1rem }
.card { background: var(--card); border-radius: 8px; padding: .8rem 1rem; min-width: 0 }
.card h2 { margin-top: 0 }
.card.failed { color: inherit; border-left: 4px solid var(--bad); margin-bottom: 1rem }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; margin: 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); font-weight: inherit; overflow-wrap: anywhere }
th[colspan] { font-weight: 600; padding-top: .9rem }
td.number, th.number { text-align: right; white-space: nowrap }
td.outcome { white-space: nowrap; width: 4.5rem } td.name { width: 42% }
.bars th { width: 14rem; border: 0 } .bars td { border: 0 } .bars td.number { width: 5rem }
.bar { background: var(--ink); border-radius: 3px; height: .9rem; margin-top: .25rem }
pre { background: var(--card); border-radius: 6px; padding: .6rem .8rem; margin: .4rem 0;
  overflow-x: auto; font: 12px/1.5 ui-monospace, monospace }
.card pre { background: var(--page) }
figure { display: inline-block; margin: 0 1rem .5rem 0 }
figure img { display: block; width: 176px; border-radius: 6px; image-rendering: pixelated }
figcaption { color: var(--soft); font-size: 13px; margin-top: .2rem }
summary { cursor: pointer; font-weight: 600; margin-top: 2rem }
svg { display: block; width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft) }
svg .grid { stroke: var(--line) } svg .moment { stroke: var(--soft); stroke-dasharray: 3 3 }
svg .line { fill: none; stroke: var(--ink); stroke-width: 2 }
svg .area { fill: var(--ink); opacity: .15 }
@media (max-width: 40rem) { td.name { width: auto } .bars th { width: 8rem } }
"""


def page(report: SmokeReport, pictures: Mapping[str, bytes], log: str = "") -> str:
    """The whole page.

    Args:
        report: what is told.
        pictures: PNGs by file name.
        log: the container's; the end of a long one.
    """
    word = _word(report)
    parts = [
        _header(report, word),
        _section("What failed", "".join(map(_failure, _of(report.checks, "failed")))),
        f"<h2>What was tested, and where</h2><div class=cards>{_subject(report)}{_place(report)}"
        "</div>",
        _section("Pictures it drew", _pictures(report, pictures)),
        _section("Checks", _checks(report.checks)),
        _section("Start of the worker, by phase", charts.bars(charts.spans(report.phases))),
        _section("This run, by what was looked at", charts.bars(_by_group(report.checks))),
        _section("Memory of the container", charts.memory(report.memory, report.phases)),
        _log(log),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>smoke {escape(report.variant)}: {word}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _word(report: SmokeReport) -> str:
    if report.passed:
        return "passed"
    return "failed" if report.count("failed") else "not proven"


def _of(checks: Iterable[Check], outcome: str) -> list[Check]:
    return [check for check in checks if check.outcome == outcome]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _header(report: SmokeReport, word: str) -> str:
    counts = ", ".join(
        f"{count} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if (count := len(_of(report.checks, outcome)))
    )
    some = "" if report.whole else " Only a part of the checks ran, which proves nothing."
    colour = word if word == "passed" else "failed"
    day, _, clock = report.started.partition("T")
    return (
        f"<header class={colour}><h1>{escape(report.image)}: <span class={colour}>{word}</span>"
        f"</h1><p class=soft>{counts} in {report.seconds:.0f} s, {escape(day)} at "
        f"{escape(clock[:5])} UTC.{some}</p></header>"
    )


def _card(title: str, rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f"<div class=card><h2>{title}</h2><dl>{cells}</dl></div>"


def _subject(report: SmokeReport) -> str:
    labels = {name.rpartition(".")[2]: value for name, value in report.labels.items()}
    return _card(
        "The image" if report.image_id else "The worker",
        [
            ("Name", report.image),
            ("ID", report.image_id or "not known: an address was tested"),
            ("Digests", ", ".join(report.digests) or ("" if not report.image_id else "not pushed")),
            ("Variant", report.variant if report.image_id else ""),
            *((escape(name), value) for name, value in report.versions.items()),
            ("Revision", labels.get("revision", "")),
            ("Built from", labels.get("created", "")),
        ],
    )


def _place(report: SmokeReport) -> str:
    host = report.host
    machine = f"{host.processors} processors, {size(host.memory)}" if host.processors else ""
    return _card(
        "The machine",
        [
            ("GPU", "; ".join(map(str, report.gpus)) or "none was given"),
            ("Host", host.name),
            ("System", host.system),
            ("Kernel", host.kernel),
            ("Size", machine),
            ("Docker", host.engine),
        ],
    )


def _failure(check: Check) -> str:
    code = f" <code>{escape(check.code)}</code>" if check.code else ""
    told = [f"<p><strong>{escape(check.name)}</strong>{code}</p>"]
    if finding := diagnostics().get(check.code):
        told.append(f"<p>{escape(finding.message)}</p><p>Cure: {escape(finding.hint)}</p>")
    told.append(f"<p class=soft>Seen: {escape(check.evidence)}</p>")
    if check.excerpt:
        told.append(f"<pre>{escape(check.excerpt)}</pre>")
    return f'<div class="card failed">{"".join(told)}</div>'


def _pictures(report: SmokeReport, pictures: Mapping[str, bytes]) -> str:
    def shown(name: str, png: bytes) -> str:
        words = name.removeprefix(f"smoke-{report.variant}-").removesuffix(".png")
        return (
            f'<figure><img alt="{escape(words)}" src="data:image/png;base64,'
            f'{base64.b64encode(png).decode()}"><figcaption>{escape(words)}</figcaption></figure>'
        )

    return "".join(shown(name, png) for name, png in pictures.items())


def _checks(checks: Sequence[Check]) -> str:
    """A table by group; the skipped ones at its end, one row for each reason."""
    ran = [check for check in checks if check.outcome != "skipped"]
    rows = []
    for group, title in {**_GROUPS, "": "Others"}.items():
        those = [check for check in ran if check.group == group]
        if those:
            rows.append(f"<tr><th colspan=4>{title}</th></tr>")
            rows += map(_check, those)
    reasons = Counter(check.evidence for check in _of(checks, "skipped"))
    if reasons:
        rows.append("<tr><th colspan=4>Skipped</th></tr>")
    rows += (
        f"<tr class=skipped><td class=outcome>{count}</td><td colspan=3>{escape(reason)}</td></tr>"
        for reason, count in reasons.items()
    )
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _check(check: Check) -> str:
    return (
        f'<tr><td class="outcome {check.outcome}">{check.outcome}</td>'
        f"<td class=name>{escape(check.name)}</td><td class=number>{check.seconds:.1f} s</td>"
        f"<td class=soft>{escape(check.evidence)}</td></tr>"
    )


def _by_group(checks: Sequence[Check]) -> list[charts.Bar]:
    shown, at = [], 0.0
    for group, title in _GROUPS.items():
        seconds = sum(check.seconds for check in checks if check.group == group)
        if seconds:
            shown.append(charts.Bar(title, at, at + seconds))
            at += seconds
    return shown


def _log(log: str) -> str:
    lines = log.strip().splitlines()
    if not lines:
        return ""
    count = f"the last {_LOG_LINES} of {len(lines)}" if len(lines) > _LOG_LINES else len(lines)
    title = f"The container's log: {count} lines"
    text = escape("\n".join(lines[-_LOG_LINES:]))
    return f"<details><summary>{title}</summary><pre>{text}</pre></details>"
