"""The smoke report: what was tested, on what, and how it went. `invoke push` reads it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as Xml

from pydantic import BaseModel, ConfigDict

from scripts.host.console import table
from scripts.host.docker.report import write as write_json

Outcome = Literal["passed", "failed", "skipped"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Check(_Record):
    """One check.

    Args:
        name: as a sentence.
        outcome: what became of it.
        seconds: that it took.
        evidence: what was seen, or why it was skipped.
        code: a failure's name in `scripts.common.findings`.
        excerpt: the lines of the log that show it.
    """

    name: str
    outcome: Outcome
    seconds: float
    evidence: str = ""
    code: str = ""
    excerpt: str = ""


class Subject(_Record):
    """What was tested: an image (with its ID), or an address, and on which GPU, empty for none."""

    image: str
    image_id: str
    variant: str
    gpu: str = ""
    labels: dict[str, str] = {}


class Usage(_Record):
    """Seconds since the container's start, and its memory in bytes then."""

    seconds: float
    memory: int


class SmokeReport(Subject):
    """What `reports/smoke-VARIANT.json` holds; sizes in bytes, phases in seconds from start."""

    host: str
    passed: bool
    checks: tuple[Check, ...]
    phases: dict[str, float] = {}
    memory: tuple[Usage, ...] = ()
    pictures: tuple[str, ...] = ()


def made(
    subject: Subject,
    checks: tuple[Check, ...],
    *,
    phases: dict[str, float] | None = None,
    memory: tuple[Usage, ...] = (),
    pictures: tuple[str, ...] = (),
) -> SmokeReport:
    """The report of a run: passed when something ran and nothing failed."""
    ran = [check for check in checks if check.outcome != "skipped"]
    return SmokeReport(
        **subject.model_dump(),
        host=f"{platform.system()} {platform.release()} {platform.machine()}",
        passed=bool(ran) and all(check.outcome == "passed" for check in ran),
        checks=checks,
        phases=phases or {},
        memory=memory,
        pictures=pictures,
    )


def write(report: SmokeReport, folder: Path, log: str) -> Path:
    """Write JSON, JUnit XML, the log and the page side by side; return where the JSON is."""
    from scripts.host.smoke.page import page

    stem = folder / f"smoke-{report.variant}"
    path = write_json(report, stem.with_suffix(".json"))
    stem.with_suffix(".xml").write_text(junit(report), encoding="utf-8")
    stem.with_suffix(".log").write_text(log, encoding="utf-8")
    pictures = {name: (folder / name).read_bytes() for name in report.pictures}
    stem.with_suffix(".html").write_text(page(report, pictures), encoding="utf-8")
    return path


def junit(report: SmokeReport) -> str:
    """The checks as JUnit XML, which every CI system shows."""
    suite = Xml.Element(
        "testsuite",
        name=f"smoke-{report.variant}",
        tests=str(len(report.checks)),
        failures=str(sum(check.outcome == "failed" for check in report.checks)),
        skipped=str(sum(check.outcome == "skipped" for check in report.checks)),
    )
    for check in report.checks:
        case = Xml.SubElement(suite, "testcase", name=check.name, time=f"{check.seconds:.2f}")
        case.set("classname", f"smoke.{report.variant}")
        if check.outcome == "failed":
            failure = Xml.SubElement(case, "failure", message=_xml(check.evidence), type=check.code)
            failure.text = _xml(check.excerpt)
        elif check.outcome == "skipped":
            Xml.SubElement(case, "skipped", message=_xml(check.evidence))
        elif check.evidence:
            Xml.SubElement(case, "system-out").text = _xml(check.evidence)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True)


def _xml(text: str) -> str:
    """Text without the control characters that XML 1.0 cannot hold."""
    return "".join(letter for letter in text if letter >= " " or letter in "\n\t")


def summary(report: SmokeReport) -> str:
    """The report for a person, one screen."""
    rows = [
        [check.outcome, f"{check.seconds:.1f} s", check.name, check.code, check.evidence[:60]]
        for check in report.checks
    ]
    verdict = "passed" if report.passed else "FAILED"
    head = f"{report.image} ({report.image_id[:19]}) {verdict}"
    return f"{table(['outcome', 'time', 'check', 'code', 'evidence'], rows, right=[1])}\n\n{head}"
