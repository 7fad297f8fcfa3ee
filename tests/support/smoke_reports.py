"""Smoke reports: written for tests of what reads them, or of a real run of some checks."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from scripts.common.checks.check import CheckResult, Outcome
from scripts.common.checks.smoke_report import RunRecord, SmokeReport, SubjectRecord
from scripts.host.config.load import ROOT
from scripts.host.reports import smoke_rendering


def png(colour: tuple[int, int, int] = (250, 20, 240), edge: int = 64) -> bytes:
    """Return an image of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (edge, edge), colour).save(stream, "PNG")
    return stream.getvalue()


def write_report(
    folder: Path,
    image_id: str,
    *,
    variant: str = "cpu",
    outcome: Outcome = "passed",
    drew: bool = True,
    whole: bool = True,
) -> SmokeReport:
    """Write the report of a run with one check, and with an image where it drew one."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = (f"smoke-{variant}-txt2img.png",) if drew else ()
    for name in pictures:
        (folder / name).write_bytes(png())
    report = SmokeReport.of(
        SubjectRecord(image="a/b:c", image_id=image_id, variant=variant),
        (CheckResult(name="draws", outcome=outcome, seconds=1.0),),
        RunRecord(
            started="2026-11-24T07:00:00+00:00",
            seconds=1.0,
            whole=whole,
            archs=("sm_75", "sm_80", "sm_86", "sm_90"),
            pictures=pictures,
        ),
    )
    smoke_rendering.write_report(report, folder, "the log")
    return report


def run_smoke_checks(
    image: str, *selection: str, variant: str, config: Path, folder: Path
) -> tuple[str, SmokeReport]:
    """Run some of the smoke checks on an image; return what pytest printed, and the report.

    Args:
        image: reference of the image.
        selection: arguments of pytest that choose the checks.
        variant: of the config.
        config: file for IMAGE_CONFIG.
        folder: of the report.
    """
    arguments = ["--image", image, "--variant", variant, "--reports", str(folder)]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", *selection, *arguments],
        cwd=ROOT,
        env={**os.environ, "IMAGE_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # A selection of the checks proves no image.
    assert answer.returncode == 1, answer.stdout + answer.stderr
    report = (folder / f"smoke-{variant}.json").read_text(encoding="utf-8")
    return answer.stdout, SmokeReport.model_validate_json(report)
