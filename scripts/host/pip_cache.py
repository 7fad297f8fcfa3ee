"""Run `pip-cache` in a worker, in a container over a volume, or on a folder of this machine."""

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
class CacheLocation:
    """Where the cache is: exactly one of container, volume and path.

    Args:
        container: a running worker.
        volume: a Docker volume's name, or a folder, mounted as RunPod mounts it.
        path: the cache's own folder on this machine.
        image: what runs the command for a volume.
        variant: of that image.
    """

    container: str = ""
    volume: str = ""
    path: str = ""
    image: str = ""
    variant: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.container, self.volume, self.path))) != 1:
            raise UserError(
                "the cache's location is missing or ambiguous",
                hint="give one of: --container NAME, --volume NAME, --path FOLDER",
            )


def docker_argv(location: CacheLocation, arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs `pip-cache ARGUMENTS` in a container. Pure."""
    if location.container:
        return ["docker", "exec", location.container, *WORKER, "pip-cache", *arguments]
    mount = ["--volume", f"{location.volume}:{MOUNT}", "--network", "none"]
    return ["docker", "run", "--rm", *mount, location.image, "pip-cache", *arguments]


def run_pip_cache(location: CacheLocation, arguments: Sequence[str]) -> None:
    """Run the command; its output goes to the terminal.

    Raises:
        UserError: it failed, or there is no docker command.
    """
    if location.path:
        from scripts.common.pip_cache.pip_cache_cli import main

        main(arguments, Path(location.path))
        return
    try:
        status = subprocess.run(docker_argv(location, arguments), check=False).returncode
    except FileNotFoundError:
        raise UserError("there is no docker command", code="engine-missing") from None
    if status:
        hint = "see its message above"
        if location.volume and status == NOT_RUN:
            build = f"invoke build --variant {location.variant}"
            hint = f"{hint}; if the image does not exist: {build}"
        place = location.container or location.volume
        raise UserError("the pip cache command failed", location=place, hint=hint)
