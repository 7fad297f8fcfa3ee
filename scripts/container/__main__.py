"""`python -m scripts.container [COMMAND]`: serve, health, handler, models, preflight and others.

Without a command it serves. Imports of this module delay the start of the WebUI, so each command
imports what it needs itself.
"""

import os
import sys
import time
from collections.abc import Sequence

from scripts.common.diagnostics.error import UserError
from scripts.common.secrets import refuse_unresolved, strip_secrets
from scripts.container.settings import Settings


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the command and its own arguments.
    """
    command = arguments[0] if arguments else "serve"
    strip_secrets(os.environ)  # before the log learns which texts it must replace
    try:
        refuse_unresolved(os.environ)
        settings = Settings.from_environment(os.environ)
        return _run(command, settings, arguments[1:])
    except UserError as error:
        from scripts.container.log import log

        log("failed", level="error", reason=str(error))
        return 1
    except Exception as error:  # Python would print its traceback with the secrets in it
        from scripts.container.log import log_crash

        log_crash(command, error)
        return 1


def _run(command: str, settings: Settings, arguments: Sequence[str]) -> int:
    if command == "health":  # runs every few seconds: it does not import the log
        from scripts.container.status.state import check_health

        is_ready, message = check_health(settings.worker_dir)
        print(message)
        return 0 if is_ready else 1
    from scripts.container.log import log_crashed_threads, set_level

    set_level(settings.log_level)
    log_crashed_threads()
    if command == "serve":
        return serve(settings)
    if command == "preflight":
        from scripts.container.preflight import preflight_checks

        return preflight_checks.main(settings, arguments)
    if command == "smoke":
        from scripts.container.smoke import smoke_cli

        return smoke_cli.main(settings, arguments)
    if command == "models":
        from scripts.container.webui import models_cli

        return models_cli.main(settings, arguments)
    if command == "handler":
        from scripts.container.serverless import handler

        return handler.main(settings)
    if command == "pip-cache":
        from scripts.common.pip_cache import pip_cache_cli
        from scripts.container import privileges
        from scripts.container.status.state import pip_cache_in_use

        cache = pip_cache_in_use(settings)
        privileges.become_owner(cache)
        return pip_cache_cli.main(arguments, cache)
    raise UserError(
        f"there is no command {command}",
        hint="one of: serve, health, preflight, smoke, models, handler, pip-cache",
    )


def serve(settings: Settings) -> int:
    """Prepare folders, become the worker's user and supervise until the worker ends."""
    from scripts.container import paths, privileges
    from scripts.container.setting_conflicts import refuse_conflicts, warn_of_platform_limit
    from scripts.container.supervisor.shutdown import end_stuck_start
    from scripts.container.supervisor.supervisor import Supervisor
    from scripts.container.webui.environment import common_environment

    started_at = time.monotonic()
    refuse_conflicts(settings)
    warn_of_platform_limit(settings, os.environ)
    with end_stuck_start(settings.ready_timeout):
        own, write = paths.list_own_folders(settings), paths.list_shared_folders(settings)
        privileges.drop(settings.worker_user, own=own, write=write)
        paths.require_writable(settings)
        env = common_environment(os.environ, settings)
    return Supervisor(settings, env, started_at).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
