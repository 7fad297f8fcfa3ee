"""Start the worker's processes: command line, environment and working folder of each."""

import sys
from collections.abc import Callable, Mapping

from scripts.container.settings import CONTAINER_PATH, Settings
from scripts.container.supervisor.extension_guard import ExtensionGuard
from scripts.container.supervisor.process import ChildProcess
from scripts.container.webui.environment import webui_environment


def start_child(
    name: str,
    settings: Settings,
    env: Mapping[str, str],
    guard: ExtensionGuard,
    on_exit: Callable[[ChildProcess], None],
) -> ChildProcess:
    """Start one process.

    Args:
        name: webui, handler or preflight.
        settings: of the worker.
        env: environment that all of them share.
        guard: knows what starts the WebUI, and reads its output.
        on_exit: called from another thread when it has ended.

    Raises:
        OSError: it cannot be started.
    """
    if name == "webui":
        env = guard.webui.extensions.environment(settings, webui_environment(env, settings))
        command, cwd = guard.webui.command(), settings.webui_dir
        return ChildProcess(name, command, env=env, cwd=cwd, on_exit=on_exit, on_line=guard.watch())
    command = [sys.executable, "-m", "scripts.container", name]
    cwd = CONTAINER_PATH if CONTAINER_PATH.is_dir() else settings.worker_dir
    if name == "preflight":
        # It imports torch beside the WebUI, which must not wait for it.
        command = ["nice", *command, "--log"]
    return ChildProcess(name, command, env=env, cwd=cwd, on_exit=on_exit)
