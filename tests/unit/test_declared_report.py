"""A report from inside a container counts for the candidate of its build, and for nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.check import CheckResult
from scripts.common.checks.smoke_report import (
    RunRecord,
    SmokeBundle,
    SmokeReport,
    SubjectRecord,
)
from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import load
from scripts.host.registry.declared_report import fetch_report
from scripts.host.registry.push import (
    PushedReference,
    PushRecord,
    record_path,
)
from scripts.host.registry.tested_image import check_tested
from tests.support import smoke_reports
from tests.support.errors import user_error
from tests.support.serving import Quiet, Server, running

IMAGE, BUILD = "sha256:" + "1" * 64, "b" * 64
DREW = CheckResult("draws an image", "passed", "64x64", seconds=1.0, group="serving")
PICTURE = "smoke-cuda128-txt2img.png"


@pytest.fixture
def inputs(tmp_path: Path) -> BuildInputs:
    """Inputs of a build whose candidate was pushed."""
    inputs = replace(resolve(load("cuda128", ("image.repository=host/me",))), root=tmp_path)
    pushed = PushedReference(reference="host/me:one", digest="sha256:2", was_there=False)
    record = PushRecord(
        image_id=IMAGE, build_id=BUILD, variant="cuda128", untested=True, references=(pushed,)
    )
    path = record_path(tmp_path, "cuda128", candidate=True)
    path.parent.mkdir()
    path.write_text(record.model_dump_json())
    return inputs


def declared(*checks: CheckResult, build_id: str = BUILD, picture: str = PICTURE) -> SmokeBundle:
    """Return what `smoke --json` prints after a run with some checks and an image."""
    subject = SubjectRecord(
        image="here", image_id="", variant="cuda128", build_id=build_id, self_declared=True
    )
    run = RunRecord(started="2026-11-28T07:00:00+00:00", seconds=9.0, pictures=(picture,))
    image = base64.b64encode(smoke_reports.png()).decode()
    report = SmokeReport.of(subject, checks or (DREW,), run)
    return SmokeBundle(report=report, images={picture: image}, log="the log")


@pytest.fixture
def fetch(inputs: BuildInputs, tmp_path: Path) -> Callable[[Any], SmokeReport]:
    """Fetch from a file, and read the report that is kept."""

    def take(document: Any) -> SmokeReport:
        file = tmp_path / "given.json"
        text = document.model_dump_json() if isinstance(document, SmokeBundle) else document
        file.write_text(text)
        return SmokeReport.model_validate_json(fetch_report(inputs, file=str(file)).read_text())

    return take


def test_a_declared_report_of_the_candidates_build_counts_as_tested(
    inputs: BuildInputs, fetch: Callable[[Any], SmokeReport]
) -> None:
    assert "no smoke report" in str(check_tested(inputs, IMAGE))
    report = fetch(declared())
    assert check_tested(inputs, IMAGE) is None
    assert report.self_declared
    assert report.image == "host/me:one"
    assert report.digests == ("host/me@sha256:2",)
    assert (inputs.root / "reports" / PICTURE).read_bytes() == smoke_reports.png()
    page = (inputs.root / "reports" / "smoke-cuda128.html").read_text()
    assert "self-declared" in page


def test_a_report_is_fetched_from_an_address(inputs: BuildInputs) -> None:
    class Pod(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            ready = self.path == "/"
            self.answer(200 if ready else 502, declared().model_dump_json().encode())

    with running(Server(("127.0.0.1", 0), Pod)) as server:
        error = user_error(fetch_report, inputs, url=f"{server.url}/starting")
        assert "the answer is 502" in error.message
        fetch_report(inputs, url=server.url)
    assert check_tested(inputs, IMAGE) is None


@pytest.mark.parametrize("build_id", ["", "c" * 64])
def test_a_report_of_another_build_is_refused(
    inputs: BuildInputs, fetch: Callable[[Any], SmokeReport], build_id: str
) -> None:
    error = user_error(fetch, declared(build_id=build_id))
    assert error.code == "report-of-another-build"
    assert "no smoke report" in str(check_tested(inputs, IMAGE))


def test_verdicts_are_made_anew(inputs: BuildInputs, fetch: Callable[[Any], SmokeReport]) -> None:
    bundle = declared(DREW, CheckResult("is fast", "failed", "no", group="gpu"))
    claimed = json.loads(bundle.model_dump_json())
    claimed["report"] |= {"passed": True, "drew": True}
    assert not fetch(json.dumps(claimed)).passed
    assert "failed" in str(check_tested(inputs, IMAGE))


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"report": {}}'])
def test_anything_else_than_a_report_is_refused(
    fetch: Callable[[Any], SmokeReport], text: str
) -> None:
    assert "no smoke report" in user_error(fetch, text).message


def test_checks_of_the_layers_stay_and_a_failure_of_theirs_counts(
    inputs: BuildInputs, fetch: Callable[[Any], SmokeReport]
) -> None:
    smoke_reports.write_report(inputs.root / "reports", IMAGE, variant="cuda128", drew=False)
    path = inputs.root / "reports" / "smoke-cuda128.json"
    earlier = SmokeReport.model_validate_json(path.read_text())
    secret = CheckResult(
        "no secrets in layers", "failed", "a key", "secret-in-image", group="image"
    )
    path.write_text(earlier.model_copy(update={"checks": (secret,)}).model_dump_json())
    assert [check.name for check in fetch(declared()).checks] == [secret.name, DREW.name]
    assert "failed" in str(check_tested(inputs, IMAGE))


def test_a_file_outside_of_the_reports_is_not_written(
    inputs: BuildInputs, fetch: Callable[[Any], SmokeReport]
) -> None:
    fetch(declared(picture="../smoke-evil.png"))
    assert not (inputs.root / "smoke-evil.png").exists()


def test_without_a_candidate_the_next_step_is_named(
    inputs: BuildInputs, fetch: Callable[[Any], SmokeReport]
) -> None:
    record_path(inputs.root, "cuda128", candidate=True).unlink()
    assert "invoke push --candidate" in user_error(fetch, declared()).hint


def test_address_or_file_has_to_be_given(inputs: BuildInputs) -> None:
    assert "give one of them" in user_error(fetch_report, inputs).message
