"""`python -m scripts.container [serve | health | handler | preflight | pip-cache] ...`.

Without a word it serves. What is imported here delays the start of the WebUI, so the other
commands import what they need themselves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from scripts.common.diagnostics.error import UserError
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
        return _run(command, settings, words[1:])
    except UserError as failure:
        log("failed", level="error", reason=str(failure))
        return 1


def _run(command: str, settings: Settings, words: Sequence[str]) -> int:
    if command == "serve":
        return serve(settings)
    if command == "health":
        from scripts.container.status import health

        return health.main(settings.worker_dir)
    if command == "preflight":
        from scripts.container.preflight import preflight_cli

        return preflight_cli.main(settings, words)
    if command == "handler":
        from scripts.container.serverless import handler

        return handler.main(settings)
    if command == "pip-cache":
        from scripts.common.pip_cache import pip_cache_cli
        from scripts.container import paths, privileges

        cache = paths.pip_cache_in_use(settings)
        privileges.become_owner(cache)
        return pip_cache_cli.main(words, cache)
    raise UserError(
        f"there is no command {command}",
        hint="one of: serve, health, preflight, handler, pip-cache",
    )


def serve(settings: Settings) -> int:
    """Be the worker: take care of folders, become its user, and supervise."""
    from scripts.container import paths, privileges
    from scripts.container.supervisor.supervisor import Supervisor

    began = time.monotonic()
    own, enter = paths.to_own(settings), paths.to_enter(settings)
    privileges.drop(settings.worker_user, own=own, enter=enter)
    paths.require(settings)
    return Supervisor(settings, began).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
