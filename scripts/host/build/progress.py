"""Follows a build: reads BuildKit's raw progress and keeps what each step did.

The output is that of `docker buildx build --progress=rawjson`: JSON objects with `vertexes`,
`statuses` and `logs` (https://docs.docker.com/reference/cli/docker/buildx/build/), one on a line in
newer releases, indented over many lines in 0.13.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

KEPT_LOG_LINES = 40
_MOUNTS = re.compile(r"^(RUN|COPY|ADD)((?: --[a-z]+(?:=\S+)?)+) ")
_STAGE = re.compile(r"^\[(?P<stage>[^\]\s]+)[^\]]*\]\s*(?P<instruction>.*)$")


@dataclass
class Step:
    """One step of the build, as far as it is known.

    Args:
        name: as BuildKit says it: `[stage 2/7] RUN …`.
        started: seconds since the epoch, 0 while it waits.
        completed: seconds since the epoch, 0 while it runs.
        cached: whether its result was reused.
        error: why it failed, empty otherwise.
        log: its last lines.
    """

    name: str
    started: float = 0.0
    completed: float = 0.0
    cached: bool = False
    error: str = ""
    log: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LOG_LINES))

    @property
    def seconds(self) -> float:
        """How long it ran."""
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
        words = " ".join((match["instruction"] if match else self.name).split())
        return _MOUNTS.sub(r"\1 ", words)


class Progress:
    """All steps of one build, fed line by line."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.other_lines: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._told: set[str] = set()
        self._transferred: dict[str, int] = {}
        self._unfinished: list[str] = []

    def feed(self, line: str) -> tuple[Step, ...]:
        """Take one line of output.

        Returns:
            The steps that this line finished, each name once.
        """
        event = self._event(line)
        if event is None:
            return ()
        for status in event.get("statuses") or []:
            self._note_transfer(status)
        finished = [self._note_vertex(vertex) for vertex in event.get("vertexes") or []]
        for log in event.get("logs") or []:
            self._note_log(log)
        return tuple(step for step in finished if step is not None)

    def _event(self, line: str) -> dict[str, Any] | None:
        """The object that this line completes, if it does; anything else is kept as plain text."""
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
        """The steps under way, oldest first."""
        under_way = [step for step in self.steps.values() if step.started and not step.completed]
        return tuple(sorted(under_way, key=lambda step: step.started))

    @property
    def failed(self) -> Step | None:
        """The step that failed first by itself, not because another one was cancelled."""
        broken = [step for step in self.steps.values() if step.error]
        return next((step for step in broken if "cancel" not in step.error), None) or (
            broken[0] if broken else None
        )

    @property
    def context_bytes(self) -> int:
        """Bytes of build context sent to the builder."""
        return sum(self._transferred.values())

    def _note_vertex(self, vertex: dict[str, Any]) -> Step | None:
        step = self.steps.setdefault(vertex["digest"], Step(vertex.get("name", "")))
        was_done = bool(step.completed)
        step.started = _seconds(vertex.get("started")) or step.started
        step.completed = _seconds(vertex.get("completed")) or step.completed
        step.cached = step.cached or bool(vertex.get("cached"))
        step.error = vertex.get("error") or step.error
        if not step.completed or was_done or (step.name in self._told and not step.error):
            return None
        self._told.add(step.name)
        return step

    def _note_log(self, log: dict[str, Any]) -> None:
        step = self.steps.get(log.get("vertex", ""))
        if step is None:
            return
        text = base64.b64decode(log.get("data") or "").decode("utf-8", "replace")
        step.log.extend(part for part in re.split(r"[\r\n]+", text) if part.strip())

    def _note_transfer(self, status: dict[str, Any]) -> None:
        name = str(status.get("id") or "")
        if name.startswith("transferring "):
            key = f"{status.get('vertex')}:{name}"
            self._transferred[key] = max(
                self._transferred.get(key, 0), int(status.get("current") or 0)
            )


def _seconds(stamp: str | None) -> float:
    """Seconds since the epoch of an RFC 3339 time, whose nanoseconds Python 3.10 cannot read."""
    if not stamp:
        return 0.0
    clipped = re.sub(r"(\.\d{6})\d+", r"\1", stamp).replace("Z", "+00:00")
    whole, dot, rest = clipped.partition(".")
    if dot:
        digits = re.match(r"\d+", rest)
        count = len(digits[0]) if digits else 0
        clipped = f"{whole}.{rest[:count].ljust(6, '0')}{rest[count:]}"
    return datetime.fromisoformat(clipped).timestamp()


def shown(steps: Iterable[Step]) -> list[Step]:
    """The steps a person wants to see: those of the Dockerfile, and slow ones of BuildKit."""
    return [step for step in steps if step.stage or step.seconds > 1 or step.error]
