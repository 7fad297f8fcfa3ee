"""Define the build report, and render it for a terminal."""

from typing import Any

from scripts.common.records import Record
from scripts.common.units import size
from scripts.host.console import table

_SLOWEST = 5


class LayerRecord(Record):
    """One layer.

    Args:
        size: bytes.
        instruction: of the Dockerfile, that made it.
    """

    size: int
    instruction: str


class StepRecord(Record):
    """One step of a build.

    Args:
        stage: of the Dockerfile.
        instruction: of the Dockerfile.
        seconds: duration.
        cached: True if its result was reused.
        ahead: True if the prebuild ran it.
    """

    stage: str
    instruction: str
    seconds: float
    cached: bool
    ahead: bool = False


class BuildReport(Record):
    """Content of `reports/build.json`.

    Args:
        image_id: ID of the image.
        tags: references that it was given.
        variant: name of the variant.
        target: stage that was built.
        size: bytes of all layers.
        seconds: duration, downloads included.
        context_bytes: bytes sent to the builder.
        cache_hit_ratio: share of the steps that were cached.
        unpinned: inputs that may change between two builds.
        layers: base first.
        steps: in the order they ended.
    """

    image_id: str
    tags: tuple[str, ...]
    variant: str
    target: str
    size: int
    seconds: float
    context_bytes: int
    cache_hit_ratio: float
    unpinned: tuple[str, ...]
    layers: tuple[LayerRecord, ...]
    steps: tuple[StepRecord, ...]


def hit_ratio(steps: tuple[StepRecord, ...]) -> float:
    """Return the share of cached steps; 1.0 without steps."""
    return round(sum(step.cached for step in steps) / len(steps), 3) if steps else 1.0


def layer_records(history: list[dict[str, Any]]) -> tuple[LayerRecord, ...]:
    """Record the layers of the engine's history, base first."""
    return tuple(
        LayerRecord(size=entry["Size"], instruction=" ".join(entry["CreatedBy"].split()))
        for entry in reversed(history)
        if entry["Size"]
    )


def render_summary(report: BuildReport) -> str:
    """Render the report for a person, on one screen."""
    ran = [step for step in report.steps if not step.cached]
    prebuilt = sum(step.ahead for step in ran)
    beside = f" ({prebuilt} beside the download)" if prebuilt else ""
    facts = [
        ("image", report.image_id),
        ("tags", ", ".join(report.tags) or "none"),
        ("size", f"{size(report.size)} in {len(report.layers)} layers"),
        ("time", f"{report.seconds:.1f} s"),
        ("steps", f"{len(ran)} run{beside}, {len(report.steps) - len(ran)} cached"),
        ("context", f"{size(report.context_bytes)} sent"),
    ]
    lines = [f"{name:<8} {value}" for name, value in facts]
    slowest = sorted(report.steps, key=lambda step: -step.seconds)[:_SLOWEST]
    rows = [
        [f"{step.seconds:.1f} s", step.stage or "-", step.instruction[:70]]
        for step in slowest
        if step.seconds >= 1
    ]
    if rows:
        lines += ["", table(["slowest", "stage", "instruction"], rows, right=[0])]
    return "\n".join(lines)
