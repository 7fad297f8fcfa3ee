"""`invoke serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["env", "define"],
    help={
        **CONFIG_HELP,
        "cpu": "draw on the processor: short for --variant cpu",
        "image": "run this image instead of the one built from this checkout",
        "port": "port on this machine; 0 takes a free one",
        "env": "NAME=VALUE for the worker (repeatable)",
    },
)
def serve(
    _: Context,
    define: list[str],
    env: list[str],
    variant: str = "cuda128",
    cpu: bool = False,
    image: str = "",
    port: int = 3000,
) -> None:
    """Run the built image; print its URL once it has drawn."""
    from scripts.host.config.load import load
    from scripts.host.serve import serve as serve_image

    loaded = load("cpu" if cpu else variant, define)
    serve_image(loaded, image=image, port=port, environment=env)
