"""Provide a second BuildKit, to see whether it makes the same image as the first."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scripts.common.run import last_line, run_program
from scripts.host.console import warn

SECOND_BUILDER: Final = "a1111-verify"
"""Name of the buildx builder that verifies; one that exists is the user's own, and stays."""

_START_SECONDS: Final = 300  # BuildKit's image is pulled: 100 MB


@contextmanager
def second_builder() -> Iterator[str]:
    """Yield the name of another builder: the user's own, or a container made for the block.

    Yields:
        Empty where none can be started, with a warning: then the first one has to do.
    """
    buildx = ("docker", "buildx")
    if run_program([*buildx, "inspect", SECOND_BUILDER]).returncode == 0:
        yield SECOND_BUILDER
        return
    create = [*buildx, "create", f"--name={SECOND_BUILDER}", "--driver=docker-container"]
    create += ["--driver-opt=network=host", "--bootstrap"]
    create += ["--buildkitd-flags=--allow-insecure-entitlement network.host"]
    try:
        started = run_program(create, timeout=_START_SECONDS)
        if started.returncode:
            warn(f"no second builder, so the first one builds again: {last_line(started)}")
        yield "" if started.returncode else SECOND_BUILDER
    finally:
        run_program([*buildx, "rm", "--force", SECOND_BUILDER])
