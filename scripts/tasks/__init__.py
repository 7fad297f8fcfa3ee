"""Define the tasks of `invoke`, one module per group.

A task parses its options, calls `scripts.host` and prints the result. Everything else is imported
in its body, so that `invoke --help` stays fast.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from scripts.common.diagnostics.error import UserError

if TYPE_CHECKING:
    from invoke.context import Context

Body = TypeVar("Body", bound=Callable[..., Any])

DEFAULT_VARIANT = "cuda128"
VARIANT_HELP = "which image: a name under `variants` in config.yaml"
DEFINE_HELP = "override one config value: key.path=value (repeatable)"


class _Task(Task[Any]):
    """A task whose `define` is spelled `-D`; invoke would make it `-d`."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name == "define":
                argument.names = ("define", "D")
        return arguments


def task(**options: Any) -> Callable[[Body], Any]:  # noqa: ANN401 - invoke's own options
    """Return invoke's decorator; errors are printed in two lines and end with exit code 1.

    Args:
        **options: as invoke takes them (`help`, `name`, `iterable`, `positional`, ...).
    """
    options.setdefault("positional", [])  # or invoke makes one of each iterable
    options.setdefault("auto_shortflags", False)  # no invented one-letter options

    def decorate(body: Body) -> Any:  # noqa: ANN401 - an invoke.Task
        return invoke_task(_print_errors(body), klass=_Task, **options)

    return decorate


def config_task(
    *,
    help: Mapping[str, str] | None = None,
    iterable: Iterable[str] = (),
    **options: Any,  # noqa: ANN401 - invoke's own options
) -> Callable[[Body], Any]:
    """Return `task` for a body that takes the loaded config first.

    The task gets the options `--variant` and `-D`.
    """

    def decorate(body: Body) -> Any:  # noqa: ANN401 - an invoke.Task
        @functools.wraps(body)
        def load_first(_: Context, define: list[str], variant: str, **arguments: Any) -> Any:  # noqa: ANN401 - whatever the task takes
            from scripts.host.config.load import load

            return body(load(variant, define), **arguments)

        keyword = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
        shared = [keyword("define"), keyword("variant", default=DEFAULT_VARIANT)]
        first, *own = inspect.signature(body).parameters.values()
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        load_first.__signature__ = inspect.Signature([first, *shared, *own])  # type: ignore[attr-defined]  # read by inspect.signature
        shared_help = {"variant": VARIANT_HELP, "define": DEFINE_HELP}
        return task(
            help={**shared_help, **(help or {})}, iterable=["define", *iterable], **options
        )(load_first)

    return decorate


def _print_errors(body: Body) -> Body:
    @functools.wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the task takes
        from scripts.host.console import note, print_error

        is_debugging = logging.getLogger("invoke").isEnabledFor(logging.DEBUG)
        try:
            return body(*args, **kwargs)
        except KeyboardInterrupt:
            note("interrupted")
            sys.exit(130)
        except BrokenPipeError:  # the reader ended first: `invoke ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # a shell's exit status for SIGPIPE
        except Exception as error:
            if is_debugging:
                raise
            if not isinstance(error, UserError):
                error = UserError(
                    f"unexpected {type(error).__name__}: {error}",
                    hint="see more with: invoke --debug ...",
                )
            print_error(error)
            sys.exit(1)

    return guarded  # type: ignore[return-value]  # same signature as body, by functools.wraps
