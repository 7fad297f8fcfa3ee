"""Builds what needs no model while the models are still on their way.

A first build would otherwise wait for gigabytes before its first step. The builder keeps what was
made; the build proper finds it in the cache, or joins a step that still runs.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from scripts.host.build.buildx import Plan, command
from scripts.host.build.progress import Progress

_DOWNLOAD = "download"  # the stage that `models` is made from where no named context replaces it
_OUTPUTS = ("--load", "--cache-to", "--provenance")


@contextmanager
def built_ahead(plan: Plan) -> Iterator[Progress]:
    """Run a plan's steps with an empty model in the background, until the block ends.

    A step that fails here ends it in silence: the build proper comes to the same step and says why.

    Args:
        plan: the build proper, without the named context `models`.

    Yields:
        What the steps did, so far.
    """
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="ahead-") as scratch:
        words = command(without_models(plan, empty_models(Path(scratch))), Path(scratch) / "iid")
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        reader = threading.Thread(target=_follow, args=(process, progress), daemon=True)
        reader.start()
        try:
            yield progress
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            reader.join()


def without_models(plan: Plan, models: Path) -> Plan:
    """The same build with other models, that leaves nothing but the builder's cache.

    They do not come as the named context `models`: the builder keeps one copy of each named context
    for the next build, and these would take the place of the real ones, which would be sent again.
    """
    kept = (word for word in plan.options if not word.startswith(_OUTPUTS))
    return replace(
        plan,
        contexts={**plan.contexts, _DOWNLOAD: models},
        tags=(),
        options=(*kept, "--output=type=cacheonly"),
    )


def empty_models(scratch: Path) -> Path:
    """A folder in place of the download that holds nothing: an empty file, an empty tree."""
    folder = scratch / _DOWNLOAD
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").touch()
    return folder


def _follow(process: subprocess.Popen[str], progress: Progress) -> None:
    for line in process.stderr or ():
        progress.feed(line)
