"""`invoke inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["define"],
    help={
        **CONFIG_HELP,
        "image": "what to look into; this checkout's own by default",
        "diff": "another image to compare packages and size with",
        "json": "print everything as JSON, with each package",
    },
)
def inspect(
    _: Context,
    define: list[str],
    variant: str = "cuda128",
    image: str = "",
    diff: str = "",
    json: bool = False,
) -> None:
    """Show an image's layers, folders and packages; fail when it is over its size budget."""
    from scripts.common.errors import Failure
    from scripts.host.config.load import load
    from scripts.host.console import say
    from scripts.host.docker import inspect as inside
    from scripts.host.docker.engine import client
    from scripts.host.docker.plan import references, source_of

    loaded, engine = load(variant, define), client()
    reference = image or references(loaded, source_of(loaded.root))[-1]
    found = inside.inspected(engine, reference, inside.base_layers(engine, loaded, reference))
    say(found.model_dump_json(indent=2) if json else inside.shown(found))
    if diff:
        say(f"\n{inside.shown_difference(inside.inspected(engine, diff), found)}")
    if over := inside.over_budget(found, loaded):
        raise Failure(
            "; ".join(over),
            where=reference,
            code="image-too-large",
            cure="see what grew with --diff, or raise smoke.total_size_limit",
        )
