"""`invoke push`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context

    from scripts.host.config.load import LoadedConfig


@task(
    iterable=["tag", "define"],
    help={
        **CONFIG_HELP,
        "tag": "further reference to push, which may move (repeatable)",
        "untested": "push without a passing smoke report; the push record says so",
    },
)
def push(
    _: Context,
    define: list[str],
    tag: list[str],
    variant: str = "cuda128",
    untested: bool = False,
) -> None:
    """Push the tested image, and check its digest.

    Immutable tags go first.
    """
    from scripts.host.config.load import load

    push_image(load(variant, define), tag, untested=untested)


def push_image(
    loaded: LoadedConfig, further: Sequence[str] = (), *, untested: bool = False
) -> None:
    """Push and print each reference with its digest.

    Raises:
        UserError: as `scripts.host.registry.push.push`.
    """
    from scripts.host.console import say
    from scripts.host.registry.push import push as push_now

    record = push_now(loaded, further, untested=untested)
    for pushed in record.references:
        say(f"{pushed.reference}@{pushed.digest}")
