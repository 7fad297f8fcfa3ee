"""Smoke reports as a run leaves them, for tests of what reads them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from scripts.common.checks.check import CheckResult, Outcome
from scripts.common.checks.smoke_report import RunRecord, SmokeReport, SubjectRecord
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
        RunRecord(started="2026-11-24T07:00:00+00:00", seconds=1.0, whole=whole, pictures=pictures),
    )
    smoke_rendering.write_report(report, folder, "the log")
    return report
