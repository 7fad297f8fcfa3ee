"""Record the results of a smoke run, and write its report when pytest ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.check import Check, CheckResult
from scripts.common.checks.gpu_checks import GpuSubject
from scripts.common.checks.image_facts import ImageFacts
from scripts.common.checks.smoke_report import (
    HostRecord,
    RunRecord,
    SmokeReport,
    complete_result,
)
from scripts.host.config.load import LoadedConfig
from scripts.host.console import say
from scripts.host.engine.client import client
from scripts.host.inspect.structure import Structure
from scripts.host.reports import smoke_rendering
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.image_facts import describe_host
from tests.smoke.target import Target

RESULT = pytest.StashKey[CheckResult]()
SETUP_SECONDS = pytest.StashKey[float]()


@dataclass
class Run:
    """Subject of a run, and its results so far.

    Args:
        target: see Target.
        folder: of the report.
        facts: returns those of the image, empty ones for an address.
        structure: returns that of the image's layers, read once.
        whole: every check is selected.
    """

    target: Target
    folder: Path
    facts: Callable[[], ImageFacts]
    structure: Callable[[], Structure]
    whole: bool
    clock: float = field(default_factory=time.monotonic)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    worker: WorkerContainer | None = None
    gpu: GpuSubject | None = None
    log: str | None = None
    kept: str = ""
    checks: list[CheckResult] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    @property
    def loaded(self) -> LoadedConfig:
        """Return the config of the variant under test."""
        return self.target.loaded


RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest write its JUnit XML, first to where no earlier report is lost."""
    if config.getoption("reports", None) is not None and not config.option.xmlpath:
        folder = tempfile.mkdtemp(prefix="smoke-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.option.xmlpath = str(Path(folder, "junit.xml"))


def group_of(item: pytest.Item) -> str:
    """Return the group of a check, the name of its file: image, start and so on."""
    return item.path.stem.removeprefix("test_")


@pytest.fixture
def examine(request: pytest.FixtureRequest) -> Callable[[Check[Any], Any], None]:
    """Run a check, and end the test as the check ended."""

    def run_check(check: Check[Any], subject: Any) -> None:
        result = check.run(subject)
        request.node.stash[RESULT] = result
        if result.outcome == "skipped":
            pytest.skip(result.evidence)
        request.node.user_properties.append(("evidence", result.evidence))
        if result.outcome == "failed":
            pytest.fail(f"{result.evidence}\nhint: {result.hint} [{result.code}]", pytrace=False)

    return run_check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    run = item.config.stash.get(RUN, None)
    if report.when == "setup":  # waiting for what a check needs is a part of it
        item.stash[SETUP_SECONDS] = report.duration
    if run and (report.when == "call" or not report.passed):
        result = item.stash.get(RESULT, None) if report.when == "call" else None
        before = item.stash[SETUP_SECONDS] if report.when == "call" else 0.0
        run.checks.append(
            complete_result(
                result or _unfinished(item, call, report),
                group=group_of(item),
                seconds=round(before + report.duration, 2),
                log=_log(run),
            )
        )
    return report


def _unfinished(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> CheckResult:
    """Return the result of a check that was not run, because of what it needs."""
    check: Check[Any] = item.callspec.params["check"]  # type: ignore[attr-defined]  # a Function's
    error = call.excinfo.value if call.excinfo else None
    if report.skipped or error is None:
        return CheckResult(check.name, "skipped", str(error))
    return check.result_of_error(error)


@pytest.hookimpl(trylast=True)  # after pytest has written its JUnit XML
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if not run or not run.checks:
        return
    report = _report(run, session.testscollected)
    say()
    say(smoke_rendering.format_summary(report, shutil.get_terminal_size((100, 24)).columns))
    page = os.path.relpath(run.folder / f"smoke-{report.variant}.html")
    if smoke_rendering.earlier_proves_more(report, run.folder):
        say(f"the earlier report stays, in which this image drew: {page}")
    else:
        smoke_rendering.write_report(report, run.folder, _log(run))
        junit = Path(session.config.option.xmlpath)
        if junit.exists():
            shutil.copyfile(junit, run.folder / f"smoke-{report.variant}.xml")
        say(f"report: {page}")
    if run.kept:
        say(f"kept: {run.kept}")
    if not report.passed:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _report(run: Run, collected: int) -> SmokeReport:
    worker, image = run.worker, run.target.image
    facts = run.facts() if image else ImageFacts()
    record = RunRecord(
        started=run.started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - run.clock, 1),
        # Interrupted, or stopped at the first failure: some checks had no chance to run.
        whole=run.whole and len(run.checks) == collected,
        host=describe_host(client()) if image else HostRecord(),
        gpus=run.gpu.devices if run.gpu else (),
        versions=facts.versions(run.loaded.config.a1111.release) if image else {},
        archs=facts.torch.archs,
        phases=worker.phases if worker else {},
        memory=tuple(sorted(worker.samples, key=lambda each: each.seconds)) if worker else (),
        pictures=tuple(run.images),
    )
    return SmokeReport.of(run.target.subject, tuple(run.checks), record)


def _log(run: Run) -> str:
    """Return the worker's log; its container may be gone by then."""
    if run.log is not None:
        return run.log
    return run.worker.log if run.worker else ""
