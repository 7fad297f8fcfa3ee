"""What a smoke run finds, and how pytest's results become the report."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks import report
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import excerpt, refine_code
from scripts.common.gpu.device import Device
from scripts.host.console import say
from scripts.host.engine.client import client
from scripts.host.inspect.structure import Structure
from scripts.host.reports import smoke_summary
from tests.smoke import container_under_test, image_facts, target

EVIDENCE = pytest.StashKey["list[str]"]()
SETUP_SECONDS = pytest.StashKey[float]()


@dataclass
class Run:
    """What is tested, and what was found so far."""

    chosen: target.Chosen
    folder: Path
    told: Future[dict[str, Any]]
    layers: Future[Structure] | None
    began: float = field(default_factory=time.monotonic)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    worker: container_under_test.Worker | None = None
    gpus: tuple[Device, ...] = ()
    gpu_used: int = 0
    log: str = ""
    kept: str = ""
    whole: bool = True
    blamed: set[str] = field(default_factory=set)
    checks: list[report.Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def needs(self, failure: UserError | None) -> None:
        """Fail the first check that meets a failure, skip every other one."""
        if failure is None:
            return
        if failure.message in self.blamed:
            pytest.skip(failure.message)
        self.blamed.add(failure.message)
        raise failure


RUN = pytest.StashKey[Run]()


def group_of(item: pytest.Item) -> str:
    """The name of the file a check is in: image, start, gpu, serving or end."""
    return item.path.stem.removeprefix("test_")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    result = yield
    run = item.config.stash.get(RUN, None)
    if result.when == "setup":  # the wait for what a check needs is a part of it
        item.stash[SETUP_SECONDS] = result.duration
    before = item.stash[SETUP_SECONDS] if result.when == "call" else 0.0
    if run and (result.when == "call" or not result.passed):
        lines = [*item.stash.setdefault(EVIDENCE, [])]
        if not result.passed and call.excinfo:
            lines.append(_in_words(call.excinfo.value))
        code, said = "", ""
        if result.failed:
            said = _said(run, call.excinfo.value)
            code = refine_code(_own(item, call.excinfo.value), said)
        run.checks.append(
            report.Check(
                name=item.name.removeprefix("test_").replace("_", " "),
                outcome=result.outcome,
                seconds=round(before + result.duration, 2),
                group=group_of(item),
                evidence="; ".join(lines),
                code=code,
                excerpt=excerpt(code, said),
            )
        )
    return result


def _in_words(error: BaseException) -> str:
    """What a failure says, on one line; a failed command's last words."""
    text = getattr(error, "message", "") or _stderr(error) or str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[-1] if _stderr(error) else lines[0]


def _stderr(error: BaseException) -> str:
    told = getattr(error, "stderr", None) or b""
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def _own(item: pytest.Item, error: BaseException) -> str:
    """The code that the check gives its failure."""
    marker = item.get_closest_marker("fails_as")
    return str(getattr(error, "code", "") or (marker.args[0] if marker else ""))


def _said(run: Run, error: BaseException) -> str:
    """Output of the command that failed, or the worker's log."""
    return _stderr(error) or (run.worker.log if run.worker else "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if not run or not run.checks:
        return
    release = run.chosen.loaded.config.a1111.release
    found = run.worker
    scene = report.Scene(
        started=run.started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - run.began, 1),
        # Interrupted, or stopped at the first failure: not every check had its turn.
        whole=run.whole and len(run.checks) == session.testscollected,
        host=image_facts.host_of(client()) if run.chosen.image else report.Host(),
        gpus=run.gpus,
        versions=image_facts.versions(run.told.result(), release) if run.chosen.image else {},
        phases=found.phases if found else {},
        memory=tuple(found.samples) if found else (),
        pictures=tuple(run.pictures),
    )
    made = report.made(run.chosen.subject, tuple(run.checks), scene)
    say()
    say(smoke_summary.summary(made, shutil.get_terminal_size((100, 24)).columns))
    page = os.path.relpath(run.folder / f"smoke-{made.variant}.html")
    if report.outdone(made, run.folder):
        say(f"the earlier report stays, in which this image drew: {page}")
    else:
        report.write(made, run.folder, run.log or (found.log if found else ""))
        say(f"report: {page}")
    if run.kept:
        say(f"kept: {run.kept}")
    if not made.passed:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
