"""Run `docker buildx build`, also for what can be built while the models are downloaded.

The SDK cannot drive BuildKit (https://github.com/docker/docker-py/issues/2230), so builds go
through the command line.
"""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import match
from scripts.host.build.build_id import compute_build_id
from scripts.host.build.build_progress import BuildProgress, live_steps
from scripts.host.build.inputs import EXTENSIONS, FINAL_STAGE, BuildInputs, BuildOptions
from scripts.host.build.smoke_expectations import make_expectations
from scripts.host.certificates import FILE
from scripts.host.console import is_live, note, warn
from scripts.host.engine.client import Engine

MODELS = "models"
"""Named build context that replaces the Dockerfile's stage of this name."""
CERTIFICATES = "certificates"
"""Named build context with the CA bundle."""
DOWNLOAD = "download"
"""Stage that the Dockerfile's stage `models` copies from.

A prebuild's empty models replace this stage and not `models`: the builder keeps one copy of each
named context for the next build, and empty ones would make it receive the real models again.
"""

# Weights, most of an image, shrink at no level; "On the wire" in docs/explanation/measurements.md.
_LEVELS = {"gzip": 1, "zstd": 3}
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHOWN_LOG_LINES = 12


def build_command(
    inputs: BuildInputs,
    options: BuildOptions,
    contexts: Mapping[str, Path],
    outputs: Sequence[str],
    served: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the buildx command line of a build; it holds no secret's value.

    Args:
        inputs: resolved inputs.
        options: the user's flags.
        contexts: named build contexts, name to folder.
        outputs: options that say what becomes of the result, see `output_options`.
        served: build arguments of `served_checkpoint`.
    """
    builder, network = options.builder or inputs.config.build.builder, inputs.config.build.network
    created = datetime.fromtimestamp(inputs.created, timezone.utc)
    arguments = {
        **inputs.arguments,
        **served,
        "VERSION": inputs.config.a1111.release,
        "REVISION": inputs.revision,
        "CREATED": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SOURCE_DATE_EPOCH": str(inputs.created),
        "BUILD_ID": compute_build_id(inputs),
        "IMAGE_SMOKE": make_expectations(inputs).model_dump_json(exclude_defaults=True),
    }
    return [
        *("docker", "buildx", "build", "--progress=rawjson"),
        *([f"--builder={builder}"] if builder else []),
        f"--target={options.target}",
        f"--network={network}",
        *(["--allow=network.host"] if network == "host" else []),  # BuildKit in containers asks
        *(["--no-cache"] if options.no_cache else []),
        *(f"--build-arg={name}={value}" for name, value in sorted(arguments.items())),
        *(f"--build-context={name}={folder}" for name, folder in sorted(contexts.items())),
        *(f"--secret=id={name},{source}" for name, source in _secrets(contexts).items()),
        *(f"--label={name}={value}" for name, value in sorted(inputs.labels.items())),
        *(f"--cache-from={value}" for value in inputs.config.build.cache.from_),
        *outputs,
        str(inputs.root),
    ]


def _secrets(contexts: Mapping[str, Path]) -> dict[str, str]:
    """Return build secrets by id: a file, or the name of an environment variable."""
    certificates = contexts.get(CERTIFICATES)
    secrets = {"ca_bundle": f"src={certificates / FILE}"} if certificates else {}
    token = next(filter(os.environ.get, _HUB_TOKENS), None)
    return {**secrets, "hf_token": f"env={token}"} if token else secrets


def output_options(
    inputs: BuildInputs, options: BuildOptions, engine: Engine, driver: str
) -> list[str]:
    """Return the options that load and tag the image, and export cache and provenance.

    The first is the one that loads it. The `docker` driver without the containerd image store can
    export neither cache nor provenance (https://docs.docker.com/build/builders/drivers/docker/):
    then a warning is printed.
    """
    exports, provenance = inputs.config.build.cache.to, []
    if driver == "docker":
        if engine.containerd_store:
            provenance = ["--provenance=mode=max"]
        else:
            exports = tuple(value for value in exports if value.startswith("type=inline"))
    if exports != inputs.config.build.cache.to:
        warn("build.cache.to is left out: this builder cannot export it; see build.builder")
    tags = options.tags + (inputs.references if options.target == FINAL_STAGE else ())
    compression = inputs.config.push.compression
    return [
        compressed_load(compression, driver) if engine.containerd_store else "--load",
        *(f"--tag={tag}" for tag in tags),
        *(f"--cache-to={value}" for value in exports),
        *provenance,
    ]


def compressed_load(compression: str, driver: str = "docker") -> str:
    """Return the option that loads an image where containerd keeps the images.

    BuildKit compresses new layers for containerd's store, and a push sends them as they are; those
    of the base stay as they were pulled (https://docs.docker.com/build/exporters/image-registry/).
    Docker's own store keeps none compressed.
    """
    kind = "image" if driver == "docker" else "docker"
    level = f"compression={compression},compression-level={_LEVELS[compression]}"
    return f"--output=type={kind},oci-mediatypes=true,{level}"


def run_buildx(
    inputs: BuildInputs,
    options: BuildOptions,
    contexts: Mapping[str, Path],
    outputs: Sequence[str],
    served: Mapping[str, str] = MappingProxyType({}),
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
        process = _start(build_command(inputs, options, contexts, outputs, served))
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
        image_id = id_file.read_text(encoding="utf-8").strip()
    return image_id, progress


@contextmanager
def prebuild(
    inputs: BuildInputs, options: BuildOptions, contexts: Mapping[str, Path]
) -> Iterator[BuildProgress]:
    """Run a build with empty models in the background until the block ends.

    A first build would otherwise wait for gigabytes before its first step. The builder caches the
    results; the build proper reuses them, or joins a step that is still running. A failing step
    ends it silently: the build proper fails at the same step and reports it.

    Args:
        inputs: of the build proper.
        options: of the build proper.
        contexts: named build contexts, without `models`.

    Yields:
        The progress so far.
    """
    progress = BuildProgress()
    with tempfile.TemporaryDirectory(prefix="prebuild-") as folder:
        process = _start(prebuild_command(inputs, options, contexts, Path(folder)))

        def follow() -> None:
            for line in process.stderr or ():
                progress.feed(line)

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        try:
            yield progress
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            reader.join()


def prebuild_command(
    inputs: BuildInputs, options: BuildOptions, contexts: Mapping[str, Path], folder: Path
) -> list[str]:
    """Return the command of a build that leaves nothing but the builder's cache.

    Args:
        inputs: of the build proper.
        options: of the build proper.
        contexts: named build contexts, without `models`.
        folder: where empty models are made.
    """
    models = folder / DOWNLOAD
    (models / "extra").mkdir(parents=True)
    (models / "model.safetensors").touch()
    # Installers may need the models. What they do without them would be done again.
    arguments = {**inputs.arguments, "EXTENSIONS_STAGE": EXTENSIONS}
    return build_command(
        replace(inputs, arguments=arguments),
        options,
        {**contexts, DOWNLOAD: models},
        ["--output=type=cacheonly"],
    )


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
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
    stage = step.stage if step else ""
    if known:
        return UserError(message, location=stage, code=known.code)
    closer = f"look closer with: invoke build --variant {variant} --target {stage}"
    hint = closer if stage else "check the engine with: invoke doctor"
    return UserError(message, location=stage, hint=hint)
