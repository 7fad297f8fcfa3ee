"""Build what needs no model while the models are downloaded.

A first build would otherwise wait for gigabytes before its first step. The builder caches the
results; the build proper reuses them, or joins a step that is still running.
"""

import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.host.build.build_progress import BuildProgress
from scripts.host.build.buildx import build_command, start_buildx
from scripts.host.build.inputs import BuildInputs, BuildOptions

DOWNLOAD = "download"
"""Stage that the Dockerfile's stage `models` copies from.

Empty models replace this stage and not `models`: the builder keeps one copy of each named context
for the next build, and empty ones would make it receive the real models again.
"""


@contextmanager
def prebuild(
    inputs: BuildInputs, options: BuildOptions, contexts: Mapping[str, Path]
) -> Iterator[BuildProgress]:
    """Run a build with empty models in the background until the block ends.

    A failing step ends it silently: the build proper fails at the same step and reports it.

    Args:
        inputs: of the build proper.
        options: of the build proper.
        contexts: named build contexts, without `models`.

    Yields:
        The progress so far.
    """
    progress = BuildProgress()
    with tempfile.TemporaryDirectory(prefix="prebuild-") as folder:
        process = start_buildx(prebuild_command(inputs, options, contexts, Path(folder)))

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
    return build_command(
        inputs, options, {**contexts, DOWNLOAD: models}, ["--output=type=cacheonly"]
    )
