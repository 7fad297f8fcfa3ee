"""Builds the image: one `docker buildx build`, its arguments from the config.

The SDK cannot drive BuildKit (https://github.com/docker/docker-py/issues/2230), so builds go
through the command line; the plan and the command are pure, `run` is the thin rim.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import match
from scripts.host.build.progress import Progress, Step
from scripts.host.build.progress_view import View
from scripts.host.config.load import DEFAULT_VARIANT
from scripts.host.console import note

FINAL_STAGE = "build_final_image"
MODELS = "models"  # the named build context that replaces the stage of this name
LAST_LINES = 12


@dataclass(frozen=True)
class Plan:
    """One build, decided.

    Args:
        root: the build context, which holds the Dockerfile.
        arguments: build arguments by name.
        contexts: named build contexts, name to folder.
        secrets: build secrets, id to `src=FILE` or `env=NAME`.
        tags: full references.
        target: stage to stop at.
        options: further words of buildx (`--no-cache`, `--cache-from=…`).
        builder: buildx builder, None for the current one.
        variant: that it builds.
    """

    root: Path
    arguments: dict[str, str]
    contexts: dict[str, Path] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    target: str = FINAL_STAGE
    options: tuple[str, ...] = ()
    builder: str | None = None
    variant: str = DEFAULT_VARIANT


def command(plan: Plan, iidfile: Path) -> list[str]:
    """The buildx command line of a plan. No secret's value is ever in it."""
    return [
        *["docker", "buildx", "build", "--progress=rawjson", f"--iidfile={iidfile}"],
        *([f"--builder={plan.builder}"] if plan.builder else []),
        f"--target={plan.target}",
        *(f"--build-arg={name}={value}" for name, value in sorted(plan.arguments.items())),
        *(f"--build-context={name}={folder}" for name, folder in sorted(plan.contexts.items())),
        *(f"--secret=id={name},{where}" for name, where in sorted(plan.secrets.items())),
        *(f"--tag={tag}" for tag in plan.tags),
        *plan.options,
        str(plan.root),
    ]


@dataclass(frozen=True)
class Built:
    """A finished build: the image's ID, how long it took in seconds, and its steps."""

    image_id: str
    seconds: float
    progress: Progress


def run(plan: Plan, *, quiet: bool = False) -> Built:
    """Build, showing progress.

    Raises:
        UserError: a step failed; says which, its last lines go to standard error.
    """
    progress = Progress()
    view = View(progress, quiet=quiet)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        iidfile = Path(folder) / "iid"
        process = subprocess.Popen(
            command(plan, iidfile),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with view.showing():
                for line in process.stderr or ():
                    view.feed(progress.feed(line))
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        finally:
            status = process.wait()
        if status != 0:
            raise explain(progress, plan.variant)
        image_id = iidfile.read_text(encoding="utf-8").strip() if iidfile.exists() else ""
    return Built(image_id, time.monotonic() - began, progress)


def explain(progress: Progress, variant: str) -> UserError:
    """What failed, as a failure; prints the failing step's last lines."""
    step = progress.failed
    lines = list(step.log) if step else list(progress.other_lines)
    for line in lines[-LAST_LINES:]:
        note(f"  | {line}")
    text = "\n".join([*lines, step.error if step else "", *progress.other_lines])
    known = match(text)
    return UserError(
        _what(step, progress),
        location=step.stage if step else "",
        code=known.code if known else "",
        hint="" if known else _next_step(step, variant),
    )


def _what(step: Step | None, progress: Progress) -> str:
    if step is None:
        last = progress.other_lines[-1] if progress.other_lines else "no reason given"
        return f"the build did not start: {last.removeprefix('ERROR: ')}"
    reason = step.error.rpartition(": ")[2] if "exit code" in step.error else step.error
    return f"the build failed at {step.instruction[:90]!r}: {reason}"


def _next_step(step: Step | None, variant: str) -> str:
    if step and step.stage:
        return f"look closer with: invoke build --variant {variant} --target {step.stage}"
    return "check the engine with: invoke doctor"
