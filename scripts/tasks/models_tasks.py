"""Tasks of the model files, from their sources to the verified store."""

import sys
from typing import TYPE_CHECKING, Annotated

from invoke.context import Context

from scripts.tasks import DEFAULT_VARIANT, Define, Variant, task

if TYPE_CHECKING:
    from scripts.host.config.load import LoadedConfig


@task()
def prefetch(
    _: Context,
    name: Annotated[list[str], "only this model (repeatable); all that are baked in by default"],
    define: Define,
    variant: Variant = DEFAULT_VARIANT,
    rehash: Annotated[bool, "distrust the stamps and read every file"] = False,
    trust_on_first_use: Annotated[
        bool, "accept unpinned URLs and write what they were into the lock"
    ] = False,
    json: Annotated[bool, "one JSON event a line, for CI"] = False,
) -> None:
    """Fetch and verify what is missing, several files at once.

    Run again after any break, it resumes.
    """
    from scripts.host.console import say
    from scripts.host.models import receipt
    from scripts.host.models.outcome import table_of

    key = receipt.key_of(variant, define, name)
    known = None if rehash else receipt.read(key)
    if known:
        say("\n".join(known.events) if json else table_of(known.rows))
        return
    from scripts.host.config.load import load
    from scripts.host.models.progress_display import leave_receipt, prefetch_shown

    loaded = load(variant, define)
    results = prefetch_shown(
        loaded, name, as_json=json, rehash=rehash, trust_on_first_use=trust_on_first_use
    )
    leave_receipt(key, loaded, results)


@task()
def verify(
    loaded: "LoadedConfig",
    delete: Annotated[bool, "delete the damaged files, to be fetched again"] = False,
) -> None:
    """Read every file of the store and report damaged ones."""
    from scripts.host.console import say, size, table, terminal_width, warn
    from scripts.host.models import upkeep
    from scripts.host.models.progress_display import display
    from scripts.host.models.store import Store

    store = Store(loaded.store)
    with display() as shown:
        checked = upkeep.verify(store, lambda path: shown.watch(path.name[:16], {}))
    rows = [
        (each.path.name[:16], " ".join(each.models), size(each.size), each.damage or "whole")
        for each in checked
    ]
    header = ("object", "models", "size", "state")
    say(table(header, rows, right=(2,), width=terminal_width()))
    damaged = [each for each in checked if each.damage]
    if delete:
        upkeep.delete([upkeep.Waste(d.path, d.size, d.damage) for d in damaged], store)
    elif damaged:
        warn(f"{len(damaged)} damaged - run: invoke models.verify --delete, then models.prefetch")
        sys.exit(1)


@task(name="list")
def list_(loaded: "LoadedConfig") -> None:
    """Show every model: source, place, and whether it is here."""
    from scripts.host.console import say, table, terminal_width
    from scripts.host.models.listing import HEADER, rows

    say(table(HEADER, rows(loaded), right=(2,), width=terminal_width()))


@task(positional=["name", "source"])
def add(
    _: Context,
    name: Annotated[str, "name of the model in tasks"],
    source: Annotated[str, "hub:owner/repo/file, or a URL"],
    path: Annotated[str, "absolute path in the image, or on the volume"],
    revision: Annotated[str, "branch, tag or commit of a Hub repository"] = "main",
    sha256: Annotated[str, "expected SHA-256; a URL needs one"] = "",
    placement: Annotated[str, "image, or volume"] = "image",
    allow_pickle: Annotated[
        bool, "accept .ckpt and .pt, which run code when they are loaded"
    ] = False,
) -> None:
    """Add a model to config.yaml."""
    from scripts.host.config.load import ROOT
    from scripts.host.console import say
    from scripts.host.models import edit

    entry = edit.entry(
        name, source, path, revision=revision, sha256=sha256, placement=placement,
        allow_pickle=allow_pickle,
    )  # fmt: skip
    edit.add(ROOT, entry)
    say(f"added {name} to config.yaml; pin it with: invoke pin")


@task(positional=["name"])
def remove(_: Context, name: Annotated[str, "the model"]) -> None:
    """Take a model out of config.yaml and the lock.

    The store keeps it until models.prune.
    """
    from scripts.host.config.load import ROOT
    from scripts.host.console import say
    from scripts.host.models import edit

    edit.remove(ROOT, name)
    say(f"removed {name} from config.yaml; free its space with: invoke models.prune")


@task()
def prune(loaded: "LoadedConfig", yes: Annotated[bool, "delete without asking"] = False) -> None:
    """Show what no config names any more; delete it if you agree."""
    from scripts.host.console import note, say, size, table
    from scripts.host.models import upkeep
    from scripts.host.models.store import Store

    rubbish = upkeep.waste(loaded)
    if not rubbish:
        say("nothing to delete")
        return
    rows = [
        (str(each.path.relative_to(loaded.store)), size(each.size), each.why) for each in rubbish
    ]
    say(table(("path", "size", "why"), rows, right=(1,)))
    if not yes and not sys.stdin.isatty():
        note("nothing was deleted: say --yes")
        return
    if yes or input("delete these? [y/N] ").strip().lower() in ("y", "yes"):
        upkeep.delete(rubbish, Store(loaded.store))
        say(f"freed {size(sum(each.size for each in rubbish))}")


@task(positional=["name"])
def path(loaded: "LoadedConfig", name: Annotated[str, "the model"]) -> None:
    """Print where a model's verified file lies, or fail."""
    from scripts.host.console import say
    from scripts.host.models.prefetch import verified_path

    say(str(verified_path(loaded, name)))
