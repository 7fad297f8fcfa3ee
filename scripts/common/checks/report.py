"""The smoke report: what was tested, on what, and how it went. `invoke push` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as Xml

from pydantic import BaseModel, ConfigDict

from scripts.common.files import write_atomically
from scripts.common.gpu.device import Device

Outcome = Literal["passed", "failed", "skipped"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Check(_Record):
    """One check.

    Args:
        name: as a sentence.
        outcome: what became of it.
        seconds: that it took.
        group: what it is about: image, start, gpu, serving or end.
        evidence: what was seen, or why it was skipped.
        code: a failure's name in `scripts.common.diagnostics.table`.
        excerpt: the lines of the log that show it.
    """

    name: str
    outcome: Outcome
    seconds: float
    group: str = ""
    evidence: str = ""
    code: str = ""
    excerpt: str = ""


class Host(_Record):
    """The machine whose engine ran the image; memory in bytes."""

    name: str = ""
    system: str = ""
    kernel: str = ""
    processors: int = 0
    memory: int = 0
    engine: str = ""


class Subject(_Record):
    """What was tested: an image (its ID, and its digests in registries), or an address."""

    image: str
    image_id: str
    variant: str
    digests: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Usage(_Record):
    """Seconds since the container's start, and its memory in bytes then."""

    seconds: float
    memory: int


class Scene(_Record):
    """Under which circumstances, and what was noted besides the checks.

    Args:
        started: when the run began, ISO 8601 in UTC.
        seconds: that it took.
        whole: whether every check had its turn; a run of a few proves nothing.
        host: where the image ran.
        gpus: that the container was given.
        versions: of what is in the image.
        phases: of the worker's start, seconds from the container's start.
        memory: of the container, over time.
        pictures: names of the PNG files beside the report.
    """

    started: str
    seconds: float
    whole: bool = True
    host: Host = Host()
    gpus: tuple[Device, ...] = ()
    versions: dict[str, str] = {}
    phases: dict[str, float] = {}
    memory: tuple[Usage, ...] = ()
    pictures: tuple[str, ...] = ()


class SmokeReport(Subject, Scene):
    """What `reports/smoke-VARIANT.json` holds.

    Args:
        passed: every check had its turn, something ran, and nothing failed.
        drew: it passed, and pictures are among what it did.
        checks: in the order they ran.
    """

    passed: bool
    drew: bool
    checks: tuple[Check, ...]

    def count(self, outcome: Outcome) -> int:
        """How many checks ended so."""
        return sum(check.outcome == outcome for check in self.checks)


def made(subject: Subject, checks: tuple[Check, ...], scene: Scene) -> SmokeReport:
    """The report of a run."""
    ran = [check for check in checks if check.outcome != "skipped"]
    passed = scene.whole and bool(ran) and all(check.outcome == "passed" for check in ran)
    return SmokeReport(
        **dict(subject),
        **dict(scene),
        passed=passed,
        drew=passed and bool(scene.pictures),
        checks=checks,
    )


def write(report: SmokeReport, folder: Path, log: str) -> Path:
    """Write JSON, JUnit XML, the log and the page side by side; return where the JSON is."""
    from scripts.host.reports.smoke_page import page

    stem = folder / f"smoke-{report.variant}"
    pictures = {name: (folder / name).read_bytes() for name in report.pictures}
    stem.with_suffix(".xml").write_text(junit(report), encoding="utf-8")
    stem.with_suffix(".log").write_text(log, encoding="utf-8")
    stem.with_suffix(".html").write_text(page(report, pictures, log), encoding="utf-8")
    path = stem.with_suffix(".json")
    write_atomically(path, f"{report.model_dump_json(indent=2)}\n")
    return path


def outdone(report: SmokeReport, folder: Path) -> bool:
    """Whether the report that is there proves more of the same image, and this one found nothing.

    Without a GPU little can be seen of a CUDA image, and that is no reason to forget what a run
    with one has proven. A failure is: it replaces whatever was there.
    """
    if not report.image_id or report.drew or report.count("failed"):
        return False
    try:
        told = (folder / f"smoke-{report.variant}.json").read_bytes()
        there = SmokeReport.model_validate_json(told)
    except (OSError, ValueError):
        return False
    return there.image_id == report.image_id and there.drew


def junit(report: SmokeReport) -> str:
    """The checks as JUnit XML, which every CI system shows."""
    suite = Xml.Element(
        "testsuite",
        name=f"smoke-{report.variant}",
        tests=str(len(report.checks)),
        failures=str(report.count("failed")),
        skipped=str(report.count("skipped")),
        time=f"{report.seconds:.2f}",
        timestamp=report.started,
        hostname=report.host.name,
    )
    for check in report.checks:
        case = Xml.SubElement(suite, "testcase", name=check.name, time=f"{check.seconds:.2f}")
        case.set("classname", f"smoke.{report.variant}.{check.group}")
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
