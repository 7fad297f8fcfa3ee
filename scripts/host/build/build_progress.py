"""Parse BuildKit's raw progress, and show the steps of a build.

The input is that of `docker buildx build --progress=rawjson`: JSON objects with `vertexes`,
`statuses` and `logs` (https://docs.docker.com/reference/cli/docker/buildx/build/), one per line in
newer releases, indented over many lines in 0.13.
"""

import base64
import json
import re
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from scripts.host.console import live
from scripts.host.reports.build_report import StepRecord

_KEPT_LOG_LINES = 40
_LINE_WIDTH = 100
_STAGE_WIDTH = len("build_final_image")
_SHOWN_RUNNING = 6
_MOUNTS = re.compile(r"^(RUN|COPY|ADD)((?: --[a-z]+(?:=\S+)?)+) ")
_STAGE = re.compile(r"^\[(?P<stage>[^\]\s]+)[^\]]*\]\s*(?P<instruction>.*)$")
_TIME = TypeAdapter(datetime)  # reads all nine digits of a second's fraction; Python 3.10 reads six


@dataclass
class Step:
    """One step of the build, as far as reported.

    Args:
        name: as BuildKit reports it: `[stage 2/7] RUN …`.
        started: seconds since the epoch, 0 while it waits.
        completed: seconds since the epoch, 0 while it runs.
        cached: True if its result was reused.
        error: why it failed, empty otherwise.
        log: its last lines.
    """

    name: str
    started: float = 0.0
    completed: float = 0.0
    cached: bool = False
    error: str = ""
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LOG_LINES))

    @property
    def seconds(self) -> float:
        """Duration; 0 while it runs."""
        return max(0.0, self.completed - self.started) if self.completed else 0.0

    @property
    def stage(self) -> str:
        """The Dockerfile stage, empty for BuildKit's own steps."""
        match = _STAGE.match(self.name)
        return match["stage"] if match and match["stage"] not in ("internal", "context") else ""

    @property
    def instruction(self) -> str:
        """The Dockerfile instruction without its mounts, or BuildKit's name of the step."""
        match = _STAGE.match(self.name)
        text = " ".join((match["instruction"] if match else self.name).split())
        return _MOUNTS.sub(r"\1 ", text)

    @property
    def title(self) -> str:
        """Stage and instruction in one short line."""
        stage = f"{self.stage:<{_STAGE_WIDTH}}  " if self.stage else ""
        text = f"{stage}{self.instruction}"
        return text if len(text) <= _LINE_WIDTH else f"{text[: _LINE_WIDTH - 1]}…"

    @property
    def is_notable(self) -> bool:
        """True for steps of the Dockerfile, and for slow or failed ones of BuildKit."""
        return bool(self.stage or self.seconds > 1 or self.error)

    def __str__(self) -> str:
        state = "failed" if self.error else "cached" if self.cached else f"{self.seconds:.1f}s"
        return f"{state:>8}  {self.title}"


class BuildProgress:
    """All steps of one build, fed line by line."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.other_lines: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._reported: set[str] = set()
        self._transferred: dict[str, int] = {}
        self._unfinished: list[str] = []

    def feed(self, line: str) -> tuple[Step, ...]:
        """Parse one line of output.

        Returns:
            The steps that this line finished, each name once.
        """
        event = self._parse(line)
        if event is None:
            return ()
        for status in event.get("statuses") or []:
            self._add_transfer(status)
        finished = [self._add_vertex(vertex) for vertex in event.get("vertexes") or []]
        for log in event.get("logs") or []:
            self._add_log(log)
        return tuple(step for step in finished if step is not None)

    def _parse(self, line: str) -> dict[str, Any] | None:
        """Return the object that this line completes, if it does; keep other text."""
        if not self._unfinished and not line.startswith("{"):
            if line.strip():
                self.other_lines.append(line.rstrip())
            return None
        self._unfinished.append(line)
        if line.rstrip() != "}" and len(self._unfinished) > 1:
            return None
        try:
            event: dict[str, Any] = json.loads("".join(self._unfinished))
        except ValueError:
            return None
        self._unfinished.clear()
        return event

    @property
    def running(self) -> tuple[Step, ...]:
        """The running steps, oldest first."""
        running = [step for step in self.steps.values() if step.started and not step.completed]
        return tuple(sorted(running, key=lambda step: step.started))

    @property
    def failed(self) -> Step | None:
        """The step that failed first by itself, not because another one was cancelled."""
        failed = [step for step in self.steps.values() if step.error]
        return min(failed, key=lambda step: "cancel" in step.error, default=None)

    @property
    def context_bytes(self) -> int:
        """Bytes of build context sent to the builder."""
        return sum(self._transferred.values())

    def _add_vertex(self, vertex: dict[str, Any]) -> Step | None:
        step = self.steps.setdefault(vertex["digest"], Step(vertex.get("name", "")))
        was_completed = bool(step.completed)
        step.started = _parse_time(vertex.get("started")) or step.started
        step.completed = _parse_time(vertex.get("completed")) or step.completed
        step.cached = step.cached or bool(vertex.get("cached"))
        step.error = vertex.get("error") or step.error
        if not step.completed or was_completed or (step.name in self._reported and not step.error):
            return None
        self._reported.add(step.name)
        return step

    def _add_log(self, log: dict[str, Any]) -> None:
        step = self.steps.get(log.get("vertex", ""))
        if step is None:
            return
        text = base64.b64decode(log.get("data") or "").decode("utf-8", "replace")
        step.log.extend(part for part in re.split(r"[\r\n]+", text) if part.strip())

    def _add_transfer(self, status: dict[str, Any]) -> None:
        name = str(status.get("id") or "")
        if name.startswith("transferring "):
            key = f"{status.get('vertex')}:{name}"
            count = int(status.get("current") or 0)
            self._transferred[key] = max(self._transferred.get(key, 0), count)


def _parse_time(text: str | None) -> float:
    """Return the seconds since the epoch of an RFC 3339 time; 0 for none."""
    return _TIME.validate_python(text).timestamp() if text else 0.0


def step_records(progress: BuildProgress, prebuilt: BuildProgress) -> tuple[StepRecord, ...]:
    """Record the Dockerfile's steps of a build, in the order they finished.

    Args:
        progress: the build.
        prebuilt: the prebuild; steps that the build found in its cache, or waited for, count as run
            and not as reused.
    """
    ran = {step.name: step for step in _finished(prebuilt) if not step.cached and not step.error}

    def record(step: Step) -> StepRecord:
        before = ran.get(step.name)
        # One step never runs twice at once: two that overlap are one run, reported to both builds.
        is_prebuilt = before is not None and (step.cached or step.started < before.completed)
        shown = before if before and is_prebuilt else step
        return StepRecord(
            stage=shown.stage,
            instruction=shown.instruction,
            seconds=round(shown.seconds, 3),
            cached=shown.cached,
            ahead=is_prebuilt,
        )

    return tuple(map(record, _finished(progress)))


def _finished(progress: BuildProgress) -> list[Step]:
    """Return the finished steps of the Dockerfile, oldest first.

    A step that this build waited for while another build ran it is reported twice, as run and as
    cached; the former is kept.
    """
    steps = [step for step in progress.steps.values() if step.completed and step.stage]
    steps.sort(key=lambda step: (not step.cached, step.completed))
    return sorted({step.name: step for step in steps}.values(), key=lambda step: step.completed)


def live_steps(progress: BuildProgress) -> AbstractContextManager[object]:
    """Return a context that shows the running steps at the foot of the terminal."""
    from rich.console import Group
    from rich.text import Text

    def render() -> Group:
        now = time.time()
        rows = [
            Text(f"{now - step.started:7.0f}s  {step.title}", "cyan")
            for step in progress.running[:_SHOWN_RUNNING]
        ]
        done = sum(1 for step in progress.steps.values() if step.completed)
        return Group(*rows, Text(f"{done} of {len(progress.steps)} steps", "dim"))

    return live(render)
