"""Runs the container's `pip-cache` from outside: in a worker, over a volume, or on a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError

WORKER = ("/opt/runpod/bin/python", "-m", "scripts.container")
MOUNT = "/runpod-volume"
NOT_RUN = 125  # of `docker run`: the engine made no container, see its manual's "Exit status"


@dataclass(frozen=True)
class Where:
    """Whose cache is meant; exactly one of the three.

    Args:
        container: a running worker.
        volume: a Docker volume's name or a folder, mounted as RunPod mounts it.
        path: the cache's own folder on this machine.
        image: runs the tool where a volume is meant.
        variant: whose build makes that image.
    """

    container: str = ""
    volume: str = ""
    path: str = ""
    image: str = ""
    variant: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.container, self.volume, self.path))) != 1:
            raise UserError(
                "say whose cache",
                hint="one of: --container NAME, --volume NAME, --path FOLDER",
            )


def docker_words(where: Where, words: Sequence[str]) -> list[str]:
    """The command line that runs `pip-cache WORDS` there. Pure.

    Args:
        where: a container or a volume.
        words: for `pip-cache`.
    """
    if where.container:
        return ["docker", "exec", where.container, *WORKER, "pip-cache", *words]
    mount = ["--volume", f"{where.volume}:{MOUNT}", "--network", "none"]
    return ["docker", "run", "--rm", *mount, where.image, "pip-cache", *words]


def run(where: Where, words: Sequence[str]) -> None:
    """Run it and pass its output on.

    Raises:
        UserError: it failed, or no engine runs.
    """
    if where.path:
        from scripts.container.pip_cache_cli import run as run_here

        run_here(words, Path(where.path))
        return
    try:
        told = subprocess.run(docker_words(where, words), check=False)
    except FileNotFoundError:
        raise UserError("the docker command is not installed", code="engine-missing") from None
    if told.returncode:
        target = where.container or where.volume
        hint = "its message is above"
        if where.volume and told.returncode == NOT_RUN:
            hint = f"{hint}; if the image is not there: invoke build --variant {where.variant}"
        raise UserError("the pip cache tool failed", location=target, hint=hint)
