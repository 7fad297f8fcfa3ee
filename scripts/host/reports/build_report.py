"""The build report: what was built, from which layers, and where the time went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from scripts.host.build.progress import Progress, Step
from scripts.host.console import size, table

SLOWEST = 5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class LayerRecord(_Record):
    """One layer: its size in bytes and the instruction that made it."""

    size: int
    instruction: str


class StepRecord(_Record):
    """One step: what it was, its seconds, whether it was reused, or ran beside the download."""

    stage: str
    instruction: str
    seconds: float
    cached: bool
    ahead: bool = False


class BuildReport(_Record):
    """What `reports/build.json` holds."""

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

    @property
    def slowest(self) -> tuple[StepRecord, ...]:
        """The steps that took longest, longest first."""
        return tuple(sorted(self.steps, key=lambda step: -step.seconds)[:SLOWEST])


def step_records(progress: Progress, earlier: Progress) -> tuple[StepRecord, ...]:
    """The Dockerfile's steps of a build, in the order they finished.

    Args:
        progress: of the build.
        earlier: of what was begun beside the download; what the build then found in the cache, or
            waited for, counts as run and not as reused.
    """
    ran = {step.name: step for step in _done(earlier) if not step.cached and not step.error}

    def record(step: Step) -> StepRecord:
        before = ran.get(step.name)
        # The same step never runs twice at once: what overlaps is one run, told to both.
        if before and (step.cached or step.started < before.completed):
            return _record(before, ahead=True)
        return _record(step, ahead=False)

    return tuple(map(record, _done(progress)))


def _done(progress: Progress) -> list[Step]:
    """The finished steps of the Dockerfile, oldest first.

    One that this build waited for while another one ran it comes twice, as run and as cached.
    """
    done = [step for step in progress.steps.values() if step.completed and step.stage]
    done.sort(key=lambda step: (not step.cached, step.completed))
    return sorted({step.name: step for step in done}.values(), key=lambda step: step.completed)


def _record(step: Step, *, ahead: bool) -> StepRecord:
    return StepRecord(
        stage=step.stage,
        instruction=step.instruction,
        seconds=round(step.seconds, 3),
        cached=step.cached,
        ahead=ahead,
    )


def hit_ratio(steps: tuple[StepRecord, ...]) -> float:
    """Cached steps over all, 1.0 for none at all."""
    return round(sum(step.cached for step in steps) / len(steps), 3) if steps else 1.0


def layer_records(history: list[dict[str, Any]]) -> tuple[LayerRecord, ...]:
    """Layers from the engine's history, base first; instructions without a layer are left out."""
    return tuple(
        LayerRecord(size=entry["Size"], instruction=" ".join(entry["CreatedBy"].split()))
        for entry in reversed(history)
        if entry["Size"]
    )


def write(report: BaseModel, path: Path) -> Path:
    """Write a report as JSON, whole or not at all, and return where."""
    return write_text(json.dumps(report.model_dump(), indent=2) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """Write a text, whole or not at all, and return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def summary(report: BuildReport) -> str:
    """The report for a person, one screen."""
    ran = [step for step in report.steps if not step.cached]
    ahead = sum(step.ahead for step in ran)
    beside = f" ({ahead} beside the download)" if ahead else ""
    facts = [
        ("image", report.image_id),
        ("tags", ", ".join(report.tags) or "none"),
        ("size", f"{size(report.size)} in {len(report.layers)} layers"),
        ("time", f"{report.seconds:.1f} s"),
        ("steps", f"{len(ran)} run{beside}, {len(report.steps) - len(ran)} cached"),
        ("context", f"{size(report.context_bytes)} sent"),
    ]
    lines = [f"{name:<8} {value}" for name, value in facts]
    slow = [step for step in report.slowest if step.seconds >= 1]
    if slow:
        rows = [
            [f"{step.seconds:.1f} s", step.stage or "-", step.instruction[:70]] for step in slow
        ]
        lines += ["", table(["slowest", "stage", "instruction"], rows, right=[0])]
    return "\n".join(lines)
