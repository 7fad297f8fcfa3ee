"""The smoke report: what counts as passed, and its forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.checks.check import CheckResult
from scripts.common.checks.image_facts import parse_image_facts
from scripts.common.checks.smoke_report import (
    HostRecord,
    MemorySample,
    RunRecord,
    SmokeReport,
    SubjectRecord,
)
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.gpu_facts import Device
from scripts.host.config.load import ROOT
from scripts.host.reports.smoke_rendering import (
    earlier_proves_more,
    format_summary,
    phase_spans,
    render_page,
    verdict,
    write_report,
)
from tests.support import smoke_reports

SUBJECT = SubjectRecord(image="a/b:c", image_id="sha256:1", variant="cpu")
RUN = RunRecord(started="2026-11-24T07:00:00+00:00", seconds=3.0)
GOOD = CheckResult(name="draws", outcome="passed", seconds=1.0, evidence="64x64")
BAD = CheckResult(
    name="loads", outcome="failed", seconds=2.0, code="model-corrupt", excerpt="a\x1b[31m<b>"
)
SKIPPED = CheckResult(name="has a GPU", outcome="skipped", seconds=0.0, evidence="no GPU")


def report_of(
    *checks: CheckResult, drew: bool = False, image_id: str = "sha256:1", whole: bool = True
) -> SmokeReport:
    pictures = ("smoke-cpu-txt2img.png",) if drew else ()
    subject = SUBJECT.model_copy(update={"image_id": image_id})
    run = RUN.model_copy(update={"pictures": pictures, "whole": whole})
    return SmokeReport.of(subject, checks, run)


def test_a_run_without_images_keeps_the_report_that_drew(tmp_path: Path) -> None:
    smoke_reports.write_report(tmp_path, "sha256:1")
    assert earlier_proves_more(report_of(GOOD, SKIPPED), tmp_path)
    assert earlier_proves_more(report_of(SKIPPED), tmp_path)


def test_a_failure_or_a_drawing_replaces_the_report_that_drew(tmp_path: Path) -> None:
    assert not earlier_proves_more(report_of(GOOD), tmp_path), "there is none yet"
    smoke_reports.write_report(tmp_path, "sha256:1")
    assert not earlier_proves_more(report_of(GOOD, BAD), tmp_path)
    assert not earlier_proves_more(report_of(GOOD, drew=True), tmp_path)


@pytest.mark.parametrize("image_id", ["", "sha256:2"])
def test_a_report_about_something_else_is_replaced(tmp_path: Path, image_id: str) -> None:
    smoke_reports.write_report(tmp_path, image_id and "sha256:1")
    assert not earlier_proves_more(report_of(GOOD, image_id=image_id), tmp_path)


def test_a_report_that_drew_nothing_or_failed_is_replaced(tmp_path: Path) -> None:
    smoke_reports.write_report(tmp_path, "sha256:1", drew=False)
    assert not earlier_proves_more(report_of(GOOD), tmp_path)
    smoke_reports.write_report(tmp_path, "sha256:1", outcome="failed")
    assert not earlier_proves_more(report_of(GOOD), tmp_path)


@pytest.mark.parametrize("checks", [(), (SKIPPED,), (GOOD, BAD)])
def test_nothing_run_or_anything_failed_is_not_passed(checks: tuple[CheckResult, ...]) -> None:
    assert not report_of(*checks).passed


def test_a_warning_is_shown_and_does_not_fail_a_run() -> None:
    warning = replace(BAD, outcome="warned")
    report = report_of(GOOD, warning)
    assert report.passed
    assert f"[{warning.code}]" in format_summary(report, 100)
    assert not report_of(warning).passed


def test_a_selection_of_checks_is_not_passed() -> None:
    report = report_of(GOOD, whole=False)
    assert not report.passed
    assert verdict(report) == "NOT PROVEN: only a part of the checks ran"


def test_it_drew_when_it_passed_with_images() -> None:
    assert not report_of(GOOD).drew
    assert report_of(GOOD, drew=True).drew
    assert not report_of(GOOD, BAD, drew=True).drew


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "smoke-cpu-txt2img.png").write_bytes(smoke_reports.png())
    run = RunRecord(
        started="2026-11-24T07:00:00+00:00",
        seconds=3.0,
        host=HostRecord(name="builder", processors=2),
        gpus=(Device("NVIDIA GeForce RTX 4090", 24564 * 2**20, (8, 9), "550.163.01"),),
        versions={"torch": "2.7.0"},
        phases={"answers": 2.0, "drawn": 3.0},
        memory=(MemorySample(seconds=1, memory=10), MemorySample(seconds=2, memory=20)),
        pictures=("smoke-cpu-txt2img.png",),
    )
    report = SmokeReport.of(SUBJECT, (GOOD, BAD, SKIPPED), run)
    path = write_report(report, tmp_path, "the log")
    assert SmokeReport.model_validate_json(path.read_text()) == report
    assert (tmp_path / "smoke-cpu.log").read_text() == "the log"
    assert (tmp_path / "smoke-cpu.html").exists()


@pytest.mark.parametrize("width", [80, 100])
def test_the_summary_fits_the_terminal_and_explains_failures(width: int) -> None:
    long = replace(GOOD, evidence="word " * 40)
    text = format_summary(report_of(long, BAD, SKIPPED, SKIPPED), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[2].startswith("ok       1.0 s  draws")
    assert lines[4].split() == ["skip", "2", "checks", "no", "GPU"]
    row = diagnostics()["model-corrupt"]
    explanation = " ".join(text[text.index("\nfail", text.index("skip")) :].split())
    assert explanation.startswith(f"fail 2.0 s loads {row.message} hint: {row.hint} [{row.code}]")
    assert "      | a [31m<b>" in text
    assert "\x1b" not in text
    assert lines[-1] == "FAILED: 1 of 2 checks, 3 s"


def test_versions_are_read_from_what_the_image_prints() -> None:
    torch = '{"version": "2.7.0+cu128", "cuda": "12.8", "cudnn": 90701, "xformers": "0.0.30"}'
    facts = parse_image_facts(f"1c0a0c4c26f78c\nPython 3.11.12\nsome library's warning\n{torch}\n")
    assert facts.versions("v1.9.3") == {
        "A1111": "v1.9.3 (1c0a0c4)",
        "torch": "2.7.0+cu128",
        "CUDA": "12.8",
        "cuDNN": "9.7.1",
        "xformers": "0.0.30",
        "Python": "3.11.12",
    }


@pytest.mark.parametrize("output", ["", "sh: no such file", "a\nb\nc"])
def test_an_image_that_prints_no_facts_has_its_release(output: str) -> None:
    assert parse_image_facts(output).versions("v1.9.3") == {"A1111": "v1.9.3"}


def test_markup_in_a_log_stays_text() -> None:
    log = "<script>x</script><img src=http://example.org/x>"
    text = render_page(report_of(BAD), {}, log)
    assert "<script" not in text
    assert "<img src=http" not in text
    assert "default-src 'none'" in text


def test_a_phase_begins_where_the_one_before_it_ended() -> None:
    phases = {"started": 1.0, "answers": 9.0, "drawn": 16.0}
    assert phase_spans(phases) == [("started", 1.0), ("answers", 8.0), ("drawn", 7.0)]
    text = render_page(report_of(GOOD).model_copy(update={"phases": phases}), {})
    assert "margin-left:6.25%;width:50.00%" in text
    assert "margin-left:56.25%;width:43.75%" in text


def test_memory_is_drawn_from_two_samples_on() -> None:
    samples = tuple(MemorySample(seconds=at, memory=at * 10**9) for at in (1, 2))
    one, two = (
        render_page(report_of(GOOD).model_copy(update={"memory": memory}), {})
        for memory in (samples[:1], samples)
    )
    assert "Memory of the container" not in one
    assert "peak 2 GB" in two


def test_the_page_shows_the_checks_of_every_group() -> None:
    groups = [path.stem.removeprefix("test_") for path in (ROOT / "tests/smoke").glob("test_*.py")]
    checks = tuple(CheckResult(f"check of {each}", "passed", group=each) for each in groups)
    page = render_page(report_of(*checks), {})
    assert [check.name for check in checks if check.name not in page] == []
