"""Run `pip-cache` in a worker, in a container over a volume, or on a folder of this machine."""

from collections.abc import Sequence
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from scripts.host.worker_command import WORKER, run_docker

MOUNT = "/runpod-volume"
NOT_RUN = 125  # of `docker run`: the engine made no container, see its manual's "Exit status"


def docker_argv(
    arguments: Sequence[str], *, container: str = "", volume: str = "", image: str = ""
) -> list[str]:
    """Return the command line that runs `pip-cache ARGUMENTS` in a container. Pure."""
    if container:
        return ["docker", "exec", container, *WORKER, "pip-cache", *arguments]
    mount = ["--volume", f"{volume}:{MOUNT}", "--network", "none"]
    return ["docker", "run", "--rm", *mount, image, "pip-cache", *arguments]


def run_pip_cache(
    arguments: Sequence[str], *, container: str, volume: str, path: str, variant: str
) -> None:
    """Run the command on one cache; its output goes to the terminal.

    Args:
        arguments: of the command.
        container: a running worker, or empty.
        volume: a Docker volume's name, or a folder, mounted as RunPod mounts it; or empty.
        path: the cache's own folder on this machine, or empty.
        variant: name of the variant whose image runs the command for a volume.

    Raises:
        UserError: not exactly one cache is given, the command failed, or there is no docker.
    """
    if sum(map(bool, (container, volume, path))) != 1:
        raise UserError(
            "the cache's location is missing or ambiguous",
            hint="give one of: --container NAME, --volume NAME, --path FOLDER",
        )
    if path:
        from scripts.common.pip_cache.pip_cache_cli import main

        main(arguments, Path(path))
        return
    image = resolve(load(variant)).references[0] if volume else ""
    argv = docker_argv(arguments, container=container, volume=volume, image=image)
    if status := run_docker(argv[1:]):
        hint = "see its message above"
        if volume and status == NOT_RUN:
            hint = f"{hint}; if the image does not exist: invoke build --variant {variant}"
        raise UserError("the pip cache command failed", location=container or volume, hint=hint)
