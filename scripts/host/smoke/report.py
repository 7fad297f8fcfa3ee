"""The smoke report: what was tested, on what, and how it went. `invoke push` reads it."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from scripts.host.console import table

Outcome = Literal["passed", "failed", "skipped"]


class Check(BaseModel):
    """One check: its name, outcome, seconds, what was seen, and a failure's code."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    seconds: float
    evidence: str = ""
    code: str = ""


class SmokeReport(BaseModel):
    """What `reports/smoke-<variant>.json` holds."""

    model_config = ConfigDict(frozen=True)

    image: str
    image_id: str
    variant: str
    host: str
    passed: bool
    checks: tuple[Check, ...]


def made(image: str, image_id: str, variant: str, checks: tuple[Check, ...]) -> SmokeReport:
    """The report of a run: passed when something ran and nothing failed."""
    ran = [check for check in checks if check.outcome != "skipped"]
    passed = bool(ran) and all(check.outcome == "passed" for check in ran)
    host = f"{platform.system()} {platform.release()} {platform.machine()}"
    return SmokeReport(
        image=image, image_id=image_id, variant=variant, host=host, passed=passed, checks=checks
    )


def write(report: SmokeReport, folder: Path) -> Path:
    """Write the report as JSON and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"smoke-{report.variant}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report.model_dump(), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def summary(report: SmokeReport) -> str:
    """The report for a person, one screen."""
    rows = [
        [check.outcome, f"{check.seconds:.1f} s", check.name, check.evidence[:60]]
        for check in report.checks
    ]
    verdict = "passed" if report.passed else "FAILED"
    head = f"{report.image} ({report.image_id[:19]}) {verdict}"
    return f"{table(['outcome', 'time', 'check', 'evidence'], rows, right=[1])}\n\n{head}"
