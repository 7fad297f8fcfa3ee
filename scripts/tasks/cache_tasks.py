"""Tasks of pip's cache on the volume, from outside the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import DEFAULT_VARIANT, VARIANT_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context

_HELP = {
    "container": "name of a running worker",
    "volume": "Docker volume, or folder that is mounted as one",
    "path": "the cache's own folder on this machine",
    "variant": f"{VARIANT_HELP}; its image runs the command for --volume",
    "json": "print JSON",
}


@task(help={**_HELP, "largest": "list the largest entries, too"})
def stats(
    _: Context,
    container: str = "",
    volume: str = "",
    path: str = "",
    variant: str = DEFAULT_VARIANT,
    largest: bool = False,
    json: bool = False,
) -> None:
    """Show what pip's cache holds and saves."""
    _run(["report" if largest else "stats"], json, container, volume, path, variant)


@task(
    help={
        **_HELP,
        "older-than": "days unused after which an entry is deleted",
        "max-size": "what may remain, such as 20G",
        "dry-run": "only count",
    }
)
def prune(
    _: Context,
    container: str = "",
    volume: str = "",
    path: str = "",
    variant: str = DEFAULT_VARIANT,
    older_than: str = "",
    max_size: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Delete the least recently used entries of pip's cache."""
    arguments = ["prune", *(["--dry-run"] if dry_run else [])]
    arguments += ["--older-than", older_than] if older_than else []
    arguments += ["--max-size", max_size] if max_size else []
    _run(arguments, json, container, volume, path, variant)


def _run(
    arguments: list[str], json: bool, container: str, volume: str, path: str, variant: str
) -> None:
    from scripts.host.build.inputs import resolve
    from scripts.host.config.load import load
    from scripts.host.pip_cache import CacheLocation, run_pip_cache

    image = resolve(load(variant)).references[0] if volume else ""
    location = CacheLocation(container, volume, path, image, variant)
    run_pip_cache(location, [*arguments, *(["--json"] if json else [])])
