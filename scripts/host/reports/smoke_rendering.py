"""Render the smoke report as a page and for a terminal, and write its files."""

import base64
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.common.checks.check import CheckResult, format_results, printable, shorten
from scripts.common.checks.smoke_report import SmokeReport
from scripts.common.files import write_atomically
from scripts.common.units import size
from scripts.host.console import painted

_COLOURS: Final = {"passed": "32", "failed": "31", "warned": "33"}
_GROUPS: Final = {
    "endpoint": "The endpoint's queue",
    "image": "The image itself",
    "start": "The container's start",
    "gpu": "The GPU",
    "serving": "The API",
    "models": "The models in the image",
    "extensions": "The extensions in the image",
    "end": "After the jobs",
    "": "Others",
}


def render_page(report: SmokeReport, images: Mapping[str, bytes], log: str = "") -> str:
    """Render one HTML page that needs nothing else: no script, no other file.

    Args:
        report: of the run.
        images: PNGs by file name.
        log: of the container; the page holds the end of a long one.
    """
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
        durations=[
            (title, sum(each.seconds or 0 for each in group)) for title, group in groups.items()
        ],
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


def write_report(report: SmokeReport, folder: Path, log: str) -> Path:
    """Write the report as JSON and as a page, and the container's log; return the JSON's path."""
    name = f"smoke-{report.variant}"  # in which a release has dots, so no suffix is replaced
    images = {file: (folder / file).read_bytes() for file in report.pictures}
    write_atomically(folder / f"{name}.log", log)
    write_atomically(folder / f"{name}.html", render_page(report, images, log))
    path = folder / f"{name}.json"
    write_atomically(path, f"{report.model_dump_json(indent=2)}\n")
    return path


def earlier_proves_more(report: SmokeReport, folder: Path) -> bool:
    """Decide whether the report in a folder proves more of the same image than a new one.

    Without a GPU little can be seen of a CUDA image, which is no reason to forget what a run with
    one has proven. A failure is: it replaces any report.
    """
    if not report.image_id or report.drew or report.failures:
        return False
    try:
        content = (folder / f"smoke-{report.variant}.json").read_bytes()
        earlier = SmokeReport.model_validate_json(content)
    except (OSError, ValueError):
        return False
    return earlier.image_id == report.image_id and earlier.drew


def format_summary(report: SmokeReport, width: int = 80) -> str:
    """Format subject, a row for each check, failures with hint and log, and the verdict.

    Args:
        report: of the run.
        width: columns of the terminal; longer evidence is cut, the report has all of it.
    """
    rows = [*report.ran]
    rows += [
        CheckResult(f"{count} check{'s' if count > 1 else ''}", "skipped", reason)
        for reason, count in report.skipped.items()
    ]
    blocks = [*_subject(report, width), "", format_results(rows, width, brief=True, paint=_paint)]
    for record in report.problems:
        blocks += ["", format_results([record], width, paint=_paint)]
        blocks += [
            shorten(f"      | {printable(line)}", width) for line in record.excerpt.splitlines()
        ]
    return "\n".join([*blocks, "", verdict(report)])


def verdict(report: SmokeReport) -> str:
    """Return one sentence: passed or not, and out of how many checks."""
    ran, failed = len(report.ran), len(report.failures)
    if report.verdict == "passed":
        return f"{_paint('passed', 'passed')}: {ran} checks in {report.seconds:.0f} s"
    if report.verdict == "failed":
        return f"{_paint('FAILED', 'failed')}: {failed} of {ran} checks, {report.seconds:.0f} s"
    reason = "no check ran" if report.whole else "only a part of the checks ran"
    return f"{_paint('NOT PROVEN', 'warned')}: {reason}"


def _subject(report: SmokeReport, width: int) -> Iterator[str]:
    image_id = f" ({report.image_id[:19]})" if report.image_id else ""
    yield shorten(f"{report.variant}  {printable(report.image + image_id)}", width)
    for gpu in report.gpus:
        yield shorten(printable(str(gpu)), width)
    if report.versions:
        versions = ", ".join(f"{name} {value}" for name, value in report.versions.items())
        yield shorten(printable(versions), width)


def _paint(word: str, outcome: str) -> str:
    return painted(word, _COLOURS.get(outcome, "0"), sys.stdout)
