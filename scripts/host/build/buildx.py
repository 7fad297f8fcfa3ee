"""Run `docker buildx build`.

The SDK cannot drive BuildKit (https://github.com/docker/docker-py/issues/2230), so builds go
through the command line.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import match
from scripts.host.build.build_progress import BuildProgress, live_steps
from scripts.host.build.inputs import FINAL_STAGE, BuildInputs, BuildOptions
from scripts.host.certificates import FILE
from scripts.host.console import is_live, note, warn
from scripts.host.engine.client import Engine, builder_driver

MODELS = "models"
"""Named build context that replaces the Dockerfile's stage of this name."""
CERTIFICATES = "certificates"
"""Named build context with the CA bundle."""

_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHOWN_LOG_LINES = 12


def build_command(
    inputs: BuildInputs,
    options: BuildOptions,
    contexts: Mapping[str, Path],
    outputs: Sequence[str],
) -> list[str]:
    """Return the buildx command line of a build; it holds no secret's value.

    Args:
        inputs: resolved inputs.
        options: the user's flags.
        contexts: named build contexts, name to folder.
        outputs: options that say what becomes of the result, see `output_options`.
    """
    builder = options.builder or inputs.build.builder
    created = datetime.fromtimestamp(inputs.created, timezone.utc)
    arguments = {
        **inputs.arguments,
        "VERSION": inputs.release,
        "REVISION": inputs.revision,
        "CREATED": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SOURCE_DATE_EPOCH": str(inputs.created),
    }
    return [
        *("docker", "buildx", "build", "--progress=rawjson"),
        *([f"--builder={builder}"] if builder else []),
        f"--target={options.target}",
        f"--network={inputs.build.network}",
        *(["--no-cache"] if options.no_cache else []),
        *(f"--build-arg={name}={value}" for name, value in sorted(arguments.items())),
        *(f"--build-context={name}={folder}" for name, folder in sorted(contexts.items())),
        *(f"--secret=id={name},{source}" for name, source in _secrets(contexts).items()),
        *(f"--label={name}={value}" for name, value in sorted(inputs.labels.items())),
        *(f"--cache-from={value}" for value in inputs.build.cache.from_),
        *outputs,
        str(inputs.root),
    ]


def _secrets(contexts: Mapping[str, Path]) -> dict[str, str]:
    """Return build secrets by id: a file, or the name of an environment variable."""
    certificates = contexts.get(CERTIFICATES)
    secrets = {"ca_bundle": f"src={certificates / FILE}"} if certificates else {}
    token = next(filter(os.environ.get, _HUB_TOKENS), None)
    return {**secrets, "hf_token": f"env={token}"} if token else secrets


def output_options(inputs: BuildInputs, options: BuildOptions, engine: Engine) -> list[str]:
    """Return the options that load and tag the image, and export cache and provenance.

    The `docker` driver without the containerd image store can export neither cache nor provenance
    (https://docs.docker.com/build/builders/drivers/docker/): then a warning is printed.

    Raises:
        UserError: there is no such builder.
    """
    exports, provenance = inputs.build.cache.to, []
    if builder_driver(options.builder or inputs.build.builder) == "docker":
        if engine.containerd_store:
            provenance = ["--provenance=mode=max"]
        else:
            exports = tuple(value for value in exports if value.startswith("type=inline"))
    if exports != inputs.build.cache.to:
        warn("build.cache.to is left out: this builder cannot export it; see build.builder")
    tags = options.tags + (inputs.references if options.target == FINAL_STAGE else ())
    return [
        "--load",
        *(f"--tag={tag}" for tag in tags),
        *(f"--cache-to={value}" for value in exports),
        *provenance,
    ]


def run_buildx(
    inputs: BuildInputs,
    options: BuildOptions,
    contexts: Mapping[str, Path],
    outputs: Sequence[str],
) -> tuple[str, BuildProgress]:
    """Build and show the progress; arguments as for `build_command`.

    Returns:
        The image's ID, and the steps.

    Raises:
        UserError: a step failed, with its stage; its last lines are printed.
    """
    progress = BuildProgress()
    live = live_steps(progress) if options.progress == "auto" and is_live() else nullcontext()
    with tempfile.TemporaryDirectory() as folder:
        id_file = Path(folder) / "iid"
        outputs = [f"--iidfile={id_file}", *outputs]
        process = start_buildx(build_command(inputs, options, contexts, outputs))
        try:
            with live:
                for line in process.stderr or ():
                    for step in progress.feed(line):
                        if step.is_notable and options.progress != "quiet":
                            note(str(step))
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        finally:
            status = process.wait()
        if status != 0:
            raise build_error(progress, inputs.variant)
        image_id = id_file.read_text(encoding="utf-8").strip() if id_file.exists() else ""
    return image_id, progress


def start_buildx(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a build; its progress comes on standard error."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def build_error(progress: BuildProgress, variant: str) -> UserError:
    """Describe a failed build, and print the failed step's last lines."""
    step = progress.failed
    lines = list(step.log) if step else list(progress.other_lines)
    for line in lines[-_SHOWN_LOG_LINES:]:
        note(f"  | {line}")
    text = "\n".join([*lines, step.error if step else "", *progress.other_lines])
    known = match(text)
    if step is None:
        last = progress.other_lines[-1] if progress.other_lines else "no reason given"
        message = f"the build did not start: {last.removeprefix('ERROR: ')}"
    else:
        reason = step.error.rpartition(": ")[2] if "exit code" in step.error else step.error
        message = f"the build failed at {step.instruction[:90]!r}: {reason}"
    hint = "check the engine with: invoke doctor"
    if step and step.stage:
        hint = f"look closer with: invoke build --variant {variant} --target {step.stage}"
    location = step.stage if step else ""
    if known:
        return UserError(message, location=location, code=known.code)
    return UserError(message, location=location, hint=hint)
