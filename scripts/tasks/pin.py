"""`invoke pin`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


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
    """Lock what the network answers: digests, commits, sums."""
    from scripts.common.diagnostics.error import UserError
    from scripts.host.config.load import load
    from scripts.host.config.lock import LOCK_NAME
    from scripts.host.console import say
    from scripts.host.pin.network import pin_network
    from scripts.host.pin.python_packages import pin_python

    if upgrade and not python:
        raise UserError("only packages are upgraded", location="--upgrade", hint="add --python")
    variants = [load(name, define) for name in variant or load(define=define).config.variants]
    if python:
        again, changes = "invoke pin --python", pin_python(variants, check=check, upgrade=upgrade)
    else:
        again, changes = "invoke pin", pin_network(variants, check=check, partly=bool(variant))
    for line in changes:
        say(line)
    if check and changes:
        raise UserError("the locks are not what they would be now", hint=f"look, then: {again}")
    if not changes:
        say("nothing changed")
    elif not python:
        say(f"wrote {LOCK_NAME}")
