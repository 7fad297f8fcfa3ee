"""`invoke cache.*`: pip's cache on the volume, seen from outside the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context

    from scripts.host.pip_cache import Where

_WHERE = {
    "container": "name of a running worker",
    "volume": "Docker volume, or folder that is mounted as one",
    "path": "the cache's own folder on this machine",
    "variant": f"{CONFIG_HELP['variant']}; its image runs the tool for --volume",
    "json": "print JSON",
}


@task(help={**_WHERE, "largest": "list the largest entries, too"})
def stats(
    _: Context,
    container: str = "",
    volume: str = "",
    path: str = "",
    variant: str = "cuda128",
    largest: bool = False,
    json: bool = False,
) -> None:
    """Show what pip's cache holds and saves."""
    from scripts.host.pip_cache import run

    words = ["report" if largest else "stats", *(["--json"] if json else [])]
    run(_where(container, volume, path, variant), words)


@task(
    help={
        **_WHERE,
        "older-than": "days unused after which an entry goes",
        "max-size": "what may remain, such as 20G",
        "dry-run": "only say what would go",
    }
)
def prune(
    _: Context,
    container: str = "",
    volume: str = "",
    path: str = "",
    variant: str = "cuda128",
    older_than: str = "",
    max_size: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Delete what pip's cache used least recently."""
    from scripts.host.pip_cache import run

    words = ["prune", *(["--dry-run"] if dry_run else []), *(["--json"] if json else [])]
    words += ["--older-than", older_than] if older_than else []
    words += ["--max-size", max_size] if max_size else []
    run(_where(container, volume, path, variant), words)


def _where(container: str, volume: str, path: str, variant: str) -> Where:
    from scripts.host.pip_cache import Where

    image = ""
    if volume:
        from scripts.host.build.plan import references, source_of
        from scripts.host.config.load import load

        loaded = load(variant)
        image = references(loaded, source_of(loaded.root))[0]
    return Where(container, volume, path, image, variant)
