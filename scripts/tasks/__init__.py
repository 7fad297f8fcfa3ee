"""Define the tasks of `invoke`, one module per group.

A task parses its options, calls `scripts.host` and prints the result. What takes long to import is
imported in its body, so that `invoke --help` stays fast. The modules do not postpone the evaluation
of annotations, because options are made from them.
"""

import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_origin

from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from scripts.common.diagnostics.error import UserError
from scripts.common.run import stop_programs
from scripts.host.console import note, print_error
from scripts.host.interruption import raise_on_signals

Variant = Annotated[str, "which image: a name under `variants` in config.yaml"]
Define = Annotated[list[str], "override one config value: key.path=value (repeatable)"]

DEFAULT_VARIANT = "cuda128"
_CONFIG_OPTIONS = (
    inspect.Parameter("define", inspect.Parameter.KEYWORD_ONLY, annotation=Define),
    inspect.Parameter(
        "variant", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_VARIANT, annotation=Variant
    ),
)


class _Task(Task[Any]):
    """A task that prints its errors, and whose `define` is spelled `-D`, not `-d`."""

    def __call__(self, *args: Any, **values: Any) -> None:  # noqa: ANN401 - whatever the task takes
        """Run the task; print an error and exit, or with `invoke --debug` show its traceback."""
        try:
            raise_on_signals(stop_programs)
            super().__call__(*args, **values)
        except KeyboardInterrupt as interrupt:
            note("interrupted")
            sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
        except BrokenPipeError:  # the reader ended first: `invoke ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # a shell's exit status for SIGPIPE
        except Exception as error:
            if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
                raise
            if not isinstance(error, UserError):
                unexpected = f"unexpected {type(error).__name__}: {error}"
                error = UserError(unexpected, hint="see more with: invoke --debug ...")
            print_error(error)
            sys.exit(1)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        help = dict(self.help)
        arguments = super().get_arguments(ignore_unknown_help)
        self.help = help  # invoke empties it, so that a second call would find none
        for argument in arguments:
            if argument.name == "define":
                argument.names = ("define", "D")
        return arguments


def task(
    *, name: str | None = None, positional: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Make an invoke task of a function; an error ends it with exit code 1.

    The function's parameters are the options: `Annotated` holds the help, lists can be repeated. A
    first parameter `loaded` is the config, loaded with two more options, `--variant` and `-D`, and
    a first parameter `inputs` the build inputs resolved from it; else it is invoke's context.

    Args:
        name: of the task, if it is not the function's.
        positional: parameters that may be given without their name.
    """

    def decorate(body: Callable[..., None]) -> Any:  # noqa: ANN401 - an invoke.Task
        first, *options = inspect.signature(body).parameters.values()
        needs_config = first.name in ("loaded", "inputs")
        if needs_config:
            options += _CONFIG_OPTIONS

        @functools.wraps(body)
        def run(context: Any, **values: Any) -> None:  # noqa: ANN401 - whatever the task takes
            if needs_config:
                from scripts.host.config.load import load

                context = load(values.pop("variant"), values.pop("define"))
            if first.name == "inputs":
                from scripts.host.build.inputs import resolve

                context = resolve(context)
            body(context, **values)

        keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
        run.__signature__ = inspect.Signature([first, *keywords])  # type: ignore[attr-defined]  # read by inspect.signature
        return invoke_task(
            run,
            klass=_Task,
            name=name,
            positional=positional,  # without it, invoke makes one of each iterable
            iterable=[
                each.name for each in options if get_origin(each.annotation.__origin__) is list
            ],
            help={each.name: each.annotation.__metadata__[0] for each in options},
            auto_shortflags=False,  # no invented one-letter options
        )

    return decorate
