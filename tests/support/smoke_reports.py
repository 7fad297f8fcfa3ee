"""Write smoke reports as a run leaves them, for tests of their readers."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from scripts.common.checks import report


def png(colour: tuple[int, int, int] = (250, 20, 240), edge: int = 64) -> bytes:
    """Make an image of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (edge, edge), colour).save(stream, "PNG")
    return stream.getvalue()


def write_report(
    folder: Path,
    image_id: str,
    *,
    variant: str = "cpu",
    outcome: report.Outcome = "passed",
    drew: bool = True,
    whole: bool = True,
) -> report.SmokeReport:
    """Write the report of a run with one check, and with an image where `drew` is set."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = (f"smoke-{variant}-txt2img.png",) if drew else ()
    for name in pictures:
        (folder / name).write_bytes(png())
    made = report.made(
        report.Subject(image="a/b:c", image_id=image_id, variant=variant),
        (report.Check(name="draws", outcome=outcome, seconds=1.0),),
        report.Scene(
            started="2026-11-24T07:00:00+00:00", seconds=1.0, whole=whole, pictures=pictures
        ),
    )
    report.write(made, folder, "the log")
    return made
