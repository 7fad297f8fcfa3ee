"""The smoke report: what counts as passed, and the forms it is told in."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from scripts.common.checks import report
from scripts.common.checks.api import Picture, decoded, difference
from scripts.common.checks.report import SmokeReport
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.device import Device
from scripts.host.reports import charts, smoke_summary
from scripts.host.reports.smoke_page import page
from tests.smoke import image_facts
from tests.support.smoke_reports import png, write_report

SUBJECT = report.Subject(image="a/b:c", image_id="sha256:1", variant="cpu")
SCENE = report.Scene(started="2026-11-24T07:00:00+00:00", seconds=3.0)
GOOD = report.Check(name="draws", outcome="passed", seconds=1.0, evidence="64x64")
BAD = report.Check(
    name="loads", outcome="failed", seconds=2.0, code="model-corrupt", excerpt="a\x1b[31m<b>"
)
SKIPPED = report.Check(name="has a GPU", outcome="skipped", seconds=0.0, evidence="no GPU")


def run(*checks: report.Check, drew: bool = False, image_id: str = "sha256:1") -> SmokeReport:
    pictures = ("smoke-cpu-txt2img.png",) if drew else ()
    subject = SUBJECT.model_copy(update={"image_id": image_id})
    return report.made(subject, checks, SCENE.model_copy(update={"pictures": pictures}))


def test_a_run_that_drew_nothing_never_replaces_one_of_the_same_image_that_drew(
    tmp_path: Path,
) -> None:
    write_report(tmp_path, "sha256:1")
    assert report.outdone(run(GOOD, SKIPPED), tmp_path)
    assert report.outdone(run(SKIPPED), tmp_path)


def test_a_failure_a_drawing_or_another_image_replaces_the_report_that_drew(tmp_path: Path) -> None:
    assert not report.outdone(run(GOOD), tmp_path), "there is none yet"
    write_report(tmp_path, "sha256:1")
    assert not report.outdone(run(GOOD, BAD), tmp_path)
    assert not report.outdone(run(GOOD, drew=True), tmp_path)
    assert not report.outdone(run(GOOD, image_id="sha256:2"), tmp_path)


def test_a_report_that_drew_nothing_or_failed_is_replaced_by_any_other(tmp_path: Path) -> None:
    write_report(tmp_path, "sha256:1", drew=False)
    assert not report.outdone(run(GOOD), tmp_path)
    write_report(tmp_path, "sha256:1", outcome="failed")
    assert not report.outdone(run(GOOD), tmp_path)


def test_runs_against_addresses_are_about_no_image(tmp_path: Path) -> None:
    write_report(tmp_path, "")
    assert not report.outdone(run(GOOD, image_id=""), tmp_path)


def test_each_code_a_check_uses_is_in_the_table() -> None:
    words = "".join(path.read_text() for path in Path("tests/smoke").glob("*.py"))
    codes = set(re.findall(r'(?:fails_as\(|code=)"([a-z0-9-]+)"', words))
    assert len(codes) > 10
    assert codes <= set(diagnostics())


@pytest.mark.parametrize("checks", [(), (SKIPPED,), (GOOD, BAD)])
def test_nothing_run_or_anything_failed_is_no_pass(checks: tuple[report.Check, ...]) -> None:
    assert not report.made(SUBJECT, checks, SCENE).passed


def test_a_part_of_the_checks_is_no_pass_whatever_it_found() -> None:
    part = SCENE.model_copy(update={"whole": False})
    made = report.made(SUBJECT, (GOOD,), part)
    assert not made.passed
    assert smoke_summary.verdict(made) == "NOT PROVEN: only a part of the checks ran"


def test_it_drew_when_it_passed_and_there_are_pictures() -> None:
    pictures = SCENE.model_copy(update={"pictures": ("a.png",)})
    assert not report.made(SUBJECT, (GOOD,), SCENE).drew
    assert report.made(SUBJECT, (GOOD,), pictures).drew
    assert not report.made(SUBJECT, (GOOD, BAD), pictures).drew


def test_a_report_is_read_back_as_it_was_written_beside_its_other_forms(tmp_path: Path) -> None:
    (tmp_path / "smoke-cpu-txt2img.png").write_bytes(png())
    scene = report.Scene(
        started="2026-11-24T07:00:00+00:00",
        seconds=3.0,
        host=report.Host(name="builder", processors=2),
        gpus=(Device("NVIDIA GeForce RTX 4090", 24564 * 2**20, (8, 9), "550.163.01"),),
        versions={"torch": "2.7.0"},
        phases={"answers": 2.0, "drawn": 3.0},
        memory=(report.Usage(seconds=1, memory=10), report.Usage(seconds=2, memory=20)),
        pictures=("smoke-cpu-txt2img.png",),
    )
    made = report.made(SUBJECT, (GOOD, BAD, SKIPPED), scene)
    path = report.write(made, tmp_path, "the log")
    assert report.SmokeReport.model_validate_json(path.read_text()) == made
    suite = Xml.fromstring((tmp_path / "smoke-cpu.xml").read_text())  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert suite.get("hostname") == "builder"
    assert (tmp_path / "smoke-cpu.log").read_text() == "the log"
    assert (tmp_path / "smoke-cpu.html").exists()


def test_the_table_fits_the_terminal_and_explains_failures_below_it() -> None:
    long = GOOD.model_copy(update={"evidence": "words " * 40})
    made = report.made(SUBJECT, (long, BAD, SKIPPED, SKIPPED), SCENE)
    for width in (80, 100):
        lines = smoke_summary.summary(made, width).splitlines()
        table = lines[: lines.index("FAIL  loads [model-corrupt]")]
        assert max(map(len, table)) <= width
    text = "\n".join(lines)
    assert "skip  2 checks   no GPU" in text
    assert diagnostics()["model-corrupt"].message in text
    assert f"hint: {diagnostics()['model-corrupt'].hint}" in text
    assert "  | a [31m<b>" in text
    assert "\x1b" not in text
    assert lines[-1] == "FAILED: 1 of 2 checks, 3 s"


def test_versions_are_read_from_what_the_image_prints() -> None:
    torch = '{"version": "2.7.0+cu128", "cuda": "12.8", "cudnn": 90701, "xformers": "0.0.30"}'
    told = image_facts.parse(
        f"1c0a0c4c26f78c\nPython 3.11.12\na warning of some library\n{torch}\n"
    )
    assert image_facts.versions(told, "v1.9.3") == {
        "A1111": "v1.9.3 (1c0a0c4)",
        "torch": "2.7.0+cu128",
        "CUDA": "12.8",
        "cuDNN": "9.7.1",
        "xformers": "0.0.30",
        "Python": "3.11.12",
    }


def test_an_image_that_tells_nothing_has_its_release_at_least() -> None:
    assert image_facts.versions(image_facts.parse("sh: no such file"), "v1.9.3") == {
        "A1111": "v1.9.3"
    }


def test_pictures_are_told_apart_by_their_pixels_not_by_their_bytes() -> None:
    one, other = decoded_png((10, 20, 30)), decoded_png((10, 20, 33))
    assert difference(one, one) == 0
    assert difference(one, other) == pytest.approx(1.0)


def decoded_png(colour: tuple[int, int, int]) -> Picture:
    return decoded(base64.b64encode(png(colour)).decode())


def test_markup_in_a_log_stays_text_and_no_script_could_run() -> None:
    text = page(
        report.made(SUBJECT, (BAD,), SCENE), {}, "<script>x</script><img src=http://example.org/x>"
    )
    assert "<script" not in text
    assert "<img src=http" not in text
    assert "default-src 'none'" in text


def test_a_phase_begins_where_the_one_before_it_ended() -> None:
    shown = charts.spans({"started": 0.1, "answers": 9.0, "drawn": 16.0})
    assert [(bar.start, bar.end) for bar in shown] == [(0.0, 0.1), (0.1, 9.0), (9.0, 16.0)]


def test_memory_is_drawn_from_two_samples_on() -> None:
    samples = [report.Usage(seconds=at, memory=at * 10**9) for at in (1, 2)]
    assert charts.memory(samples[:1], {}) == ""
    assert "peak 2 GB" in charts.memory(samples, {"drawn": 1.0})
