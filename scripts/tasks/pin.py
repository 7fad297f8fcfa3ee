"""`invoke pin`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from scripts.host.config.load import Loaded


@task(
    iterable=["variant", "define"],
    help={
        "variant": "only this variant, keeping the rest of the lock (repeatable; default: all)",
        "define": CONFIG_HELP["define"],
        "check": "write nothing; fail when the locks are not what this would write",
        "python": "compile the hashed locks of Python packages instead",
        "upgrade": "with --python: newest versions instead of keeping those locked",
    },
)
def pin(
    _: Context,
    variant: list[str],
    define: list[str],
    check: bool = False,
    python: bool = False,
    upgrade: bool = False,
) -> None:
    """Ask the outside world for digests, commits and checksums, and lock them."""
    from scripts.host.config.load import load

    names = variant or list(load(define=define).config.variants)
    variants = [load(name, define) for name in names]
    if python:
        _pin_python(variants, check=check, upgrade=upgrade)
    else:
        _pin_network(variants, check=check, partly=bool(variant))


def _pin_python(variants: Sequence[Loaded], *, check: bool, upgrade: bool) -> None:
    from scripts.common.errors import Failure
    from scripts.host.console import say
    from scripts.host.pin.python import pin_python

    changed = pin_python(variants, check=check, upgrade=upgrade)
    if check and changed:
        raise Failure(f"not up to date: {', '.join(changed)}", cure="run: invoke pin --python")
    for name in changed:
        say(f"wrote {name}")
    if not changed:
        say("nothing changed")


def _pin_network(variants: Sequence[Loaded], *, check: bool, partly: bool) -> None:
    from scripts.common.errors import Failure
    from scripts.host.config.lock import LOCK_NAME, write_lock
    from scripts.host.console import say
    from scripts.host.pin.network import differences, find, merged

    root, before = variants[0].root, variants[0].lock
    now = merged(before, find(variants)) if partly else find(variants)
    changes = differences(before, now)
    for line in changes:
        say(line)
    if check and changes:
        raise Failure(
            f"{LOCK_NAME} is not what the network answers now", cure="look, then: invoke pin"
        )
    if not check:
        write_lock(root, now)
    say(f"wrote {LOCK_NAME}" if changes else "nothing changed")
