"""Data of the smoke report: what was tested, on what, and the results. `invoke push` reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from scripts.common.checks.check import CheckResult
from scripts.common.diagnostics.table import excerpt, refine_code
from scripts.common.gpu.gpu_facts import Device
from scripts.common.records import Record


class HostRecord(Record):
    """The machine that ran the image.

    Args:
        name: of the machine.
        system: distribution and its version.
        kernel: version and architecture.
        processors: number of them.
        memory: bytes.
        engine: version of the Docker engine.
    """

    name: str = ""
    system: str = ""
    kernel: str = ""
    processors: int = 0
    memory: int = 0
    engine: str = ""


class SubjectRecord(Record):
    """The image or the address that was tested.

    Args:
        image: reference, or the address.
        image_id: ID of the image; empty for an address.
        variant: name of the variant.
        digests: of the image in registries.
        labels: of the image.
        build_id: ID of the build; empty without `invoke build`, or for an address.
        self_declared: it was made inside the container. Whoever ran it may have changed it.
    """

    image: str
    image_id: str
    variant: str
    digests: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    build_id: str = ""
    self_declared: bool = False


class MemorySample(Record):
    """Memory of the container at one moment.

    Args:
        seconds: since the container's start.
        memory: bytes.
    """

    seconds: float
    memory: int


class RunRecord(Record):
    """Circumstances of a run, and what was measured besides the checks.

    Args:
        started: start of the run, ISO 8601 in UTC.
        seconds: duration.
        whole: every check ran or was skipped for a reason of its own; a selection proves nothing.
        host: where the image ran.
        gpus: those of the container.
        versions: of the software in the image.
        archs: what its torch has code for, as `torch.cuda.get_arch_list()` names it.
        phases: of the worker's start, seconds from the container's start.
        memory: of the container, over time.
        pictures: names of the PNG files beside the report.
    """

    started: str
    seconds: float
    whole: bool = True
    host: HostRecord = HostRecord()
    gpus: tuple[Device, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    archs: tuple[str, ...] = ()
    phases: dict[str, float] = Field(default_factory=dict)
    memory: tuple[MemorySample, ...] = ()
    pictures: tuple[str, ...] = ()


class SmokeReport(SubjectRecord, RunRecord):
    """The content of `reports/smoke-VARIANT.json`.

    Args:
        passed: the run was whole, some check passed, and none failed.
        drew: it passed, and images were drawn.
        checks: in the order they ran.
    """

    passed: bool
    drew: bool
    checks: tuple[CheckResult, ...]

    @classmethod
    def of(
        cls, subject: SubjectRecord, checks: tuple[CheckResult, ...], run: RunRecord
    ) -> SmokeReport:
        """Make the report of a run."""
        outcomes = {check.outcome for check in checks}
        passed = run.whole and "passed" in outcomes and "failed" not in outcomes
        drew = passed and bool(run.pictures)
        return cls(**dict(subject), **dict(run), passed=passed, drew=drew, checks=checks)

    @property
    def verdict(self) -> Literal["passed", "failed", "not proven"]:
        """Return the run's outcome in words."""
        if self.passed:
            return "passed"
        return "failed" if self.failures else "not proven"

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """Return the failed checks."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    @property
    def problems(self) -> tuple[CheckResult, ...]:
        """Return the checks that failed or warned."""
        return tuple(check for check in self.checks if check.outcome in ("failed", "warned"))

    @property
    def ran(self) -> tuple[CheckResult, ...]:
        """Return the checks that were not skipped."""
        return tuple(check for check in self.checks if check.outcome != "skipped")

    @property
    def skipped(self) -> dict[str, int]:
        """Return the reasons for skipping, and how many checks each one stopped."""
        reasons = [check.evidence for check in self.checks if check.outcome == "skipped"]
        return {reason: reasons.count(reason) for reason in reasons}


class SmokeBundle(Record):
    """A report with what lies beside it in files, in one JSON document.

    Args:
        report: of a run inside the container.
        images: PNG files as base64, by name.
        log: of the worker.
    """

    report: SmokeReport
    images: dict[str, str]
    log: str


def complete_result(result: CheckResult, *, group: str, seconds: float, log: str) -> CheckResult:
    """Return a check's result as a report has it: a failure with its cause and lines that show it.

    Args:
        result: of the check.
        group: of the check.
        seconds: that it took, with the wait for what it needs.
        log: of the worker.
    """
    code, shown = result.code, ""
    if result.outcome == "failed":
        log = result.excerpt or log
        code = refine_code(result.code, log)
        shown = excerpt(code, log)
    return replace(result, seconds=seconds, group=group, code=code, excerpt=shown)
