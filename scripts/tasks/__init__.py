"""The words users type: thin invoke tasks, one module a namespace.

A task parses its words, calls `scripts.host` and prints the result. `task` is invoke's own
decorator with one addition: a `UserError` becomes its one line and exit code 1.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from scripts.common.diagnostics.error import UserError

Body = TypeVar("Body", bound=Callable[..., Any])

CONFIG_HELP = {
    "variant": "which image: a name under `variants` in config.yaml",
    "define": "override one config value: key.path=value (repeatable)",
}


class _Task(Task[Any]):
    """A task whose `define` is spelled `-D`, which invoke would otherwise make `-d`."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name == "define":
                argument.names = ("define", "D")
        return arguments


def debugging() -> bool:
    """Whether `invoke --debug` asked for tracebacks."""
    return logging.getLogger("invoke").isEnabledFor(logging.DEBUG)


def _one_line(body: Body) -> Body:
    @functools.wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the task takes
        from scripts.host.console import fail, note

        try:
            return body(*args, **kwargs)
        except UserError as failure:
            if debugging():
                raise
            fail(failure)
            sys.exit(1)
        except KeyboardInterrupt:
            note("interrupted")
            sys.exit(130)
        except BrokenPipeError:  # whoever read it has seen enough: `invoke ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # as a shell tells the end by SIGPIPE
        except Exception as error:
            if debugging():
                raise
            kind = type(error).__name__
            fail(UserError(f"unexpected {kind}: {error}", hint="see more with: invoke --debug ..."))
            sys.exit(1)

    return guarded  # type: ignore[return-value]  # same signature as body, by functools.wraps


def task(**options: Any) -> Callable[[Body], Any]:  # noqa: ANN401 - invoke's own options
    """`invoke.task`, with failures shown as one line.

    Args:
        **options: as invoke takes them (`help`, `name`, `iterable`, `positional`, ...).
    """
    options.setdefault("positional", [])  # or invoke makes one of each iterable
    options.setdefault("auto_shortflags", False)  # long words read better than invented letters

    def decorate(body: Body) -> Any:  # noqa: ANN401 - an invoke.Task
        return invoke_task(_one_line(body), klass=_Task, **options)

    return decorate
