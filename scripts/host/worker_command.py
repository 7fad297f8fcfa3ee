"""Run a command of the worker in a running container; its output goes to the terminal."""

import subprocess
from collections.abc import Sequence

from scripts.common.diagnostics.error import UserError

WORKER = ("/opt/runpod/bin/python", "-m", "scripts.container")


def run_in_worker(container: str, arguments: Sequence[str]) -> None:
    """Run `python -m scripts.container ARGUMENTS` in a container.

    Args:
        container: name of a running worker.
        arguments: the command and its own arguments.

    Raises:
        UserError: the command failed, or there is no docker.
    """
    if run_docker(["exec", container, *WORKER, *arguments]):
        raise UserError(
            f"the worker's command {arguments[0]} failed",
            location=container,
            hint="see its message above",
        )


def run_docker(arguments: Sequence[str]) -> int:
    """Run a docker command whose output goes to the terminal, and return its exit code.

    Raises:
        UserError: there is no docker.
    """
    try:
        return subprocess.run(["docker", *arguments], check=False).returncode
    except FileNotFoundError:
        raise UserError("there is no docker command", code="engine-missing") from None
