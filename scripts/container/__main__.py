"""`python -m scripts.container [serve | health | handler | preflight | pip-cache] ...`.

Without a word it serves. What is imported here delays the start of the WebUI, so the other
commands import what they need themselves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from scripts.common.errors import Failure
from scripts.container.log import log, set_level
from scripts.container.settings import Settings


def main(words: Sequence[str]) -> int:
    """Run one command.

    Args:
        words: the command and its own words.
    """
    command = words[0] if words else "serve"
    try:
        settings = Settings.from_environment(os.environ)
        set_level(settings.log_level)
        return _run(command, settings)
    except Failure as failure:
        log("failed", level="error", reason=str(failure))
        return 1


def _run(command: str, settings: Settings) -> int:
    if command == "serve":
        return serve(settings)
    if command == "health":
        from scripts.container import health

        return health.main(settings.worker_dir)
    raise Failure(f"there is no command {command}", cure="one of: serve, health, handler, ...")


def serve(settings: Settings) -> int:
    """Be the worker: take care of folders, become its user, and supervise."""
    from scripts.container import places, privileges
    from scripts.container.supervisor import Supervisor

    began = time.monotonic()
    privileges.drop(settings.worker_user, own=places.to_own(settings))
    places.require(settings)
    return Supervisor(settings, began).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
