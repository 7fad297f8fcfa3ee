"""Tasks of pip's cache on the volume, from outside the container."""

from typing import Annotated

from invoke.context import Context

from scripts.tasks import DEFAULT_VARIANT, Variant, task

_Container = Annotated[str, "name of a running worker"]
_Volume = Annotated[str, "Docker volume, or folder that is mounted as one; --variant's image runs"]
_Path = Annotated[str, "the cache's own folder on this machine"]
_Json = Annotated[bool, "print JSON"]


@task()
def stats(
    _: Context,
    container: _Container = "",
    volume: _Volume = "",
    path: _Path = "",
    variant: Variant = DEFAULT_VARIANT,
    largest: Annotated[bool, "list the largest entries, too"] = False,
    json: _Json = False,
) -> None:
    """Show what pip's cache holds and saves."""
    from scripts.host.pip_cache import run_pip_cache

    arguments = ["report" if largest else "stats", *(["--json"] if json else [])]
    run_pip_cache(arguments, container=container, volume=volume, path=path, variant=variant)


@task()
def prune(
    _: Context,
    container: _Container = "",
    volume: _Volume = "",
    path: _Path = "",
    variant: Variant = DEFAULT_VARIANT,
    older_than: Annotated[str, "days unused after which an entry is deleted"] = "",
    max_size: Annotated[str, "what may remain, such as 20G"] = "",
    dry_run: Annotated[bool, "only count"] = False,
    json: _Json = False,
) -> None:
    """Delete the least recently used entries of pip's cache."""
    from scripts.host.pip_cache import run_pip_cache

    arguments = ["prune", *(["--dry-run"] if dry_run else []), *(["--json"] if json else [])]
    arguments += ["--older-than", older_than] if older_than else []
    arguments += ["--max-size", max_size] if max_size else []
    run_pip_cache(arguments, container=container, volume=volume, path=path, variant=variant)
