"""Define `invoke models.*`: download, verify, list and edit the models of the config."""

import sys
from typing import TYPE_CHECKING, Annotated

from invoke.context import Context

from scripts.common.units import size
from scripts.host.console import note, say, warn
from scripts.tasks import DEFAULT_VARIANT, Define, Variant, task

if TYPE_CHECKING:
    from scripts.host.config.load import LoadedConfig


@task()
def prefetch(
    _: Context,
    name: Annotated[list[str], "only this model (repeatable); all that are baked in by default"],
    define: Define,
    variant: Variant = DEFAULT_VARIANT,
    rehash: Annotated[bool, "ignore the stamps and read every file"] = False,
    trust_on_first_use: Annotated[bool, "accept and pin URLs without a SHA-256"] = False,
    json: Annotated[bool, "one JSON event a line, for CI"] = False,
) -> None:
    """Download and verify missing models, several at once.

    After an interruption, the next run resumes.
    """
    from scripts.host.models import receipt

    key = receipt.key_of(variant, define, name)
    if not rehash and receipt.replay(key, as_json=json):
        return
    from scripts.host.config.load import load
    from scripts.host.models.artifacts import image_artifacts
    from scripts.host.models.hub_client import Hub
    from scripts.host.models.models_display import open_display
    from scripts.host.models.prefetch import PrefetchOptions
    from scripts.host.models.prefetch import prefetch as fetch_artifacts
    from scripts.host.models.store import Store

    loaded = load(variant, define)
    store, hub = Store(loaded.store), Hub.from_config(loaded)
    with open_display(as_json=json) as display:
        options = PrefetchOptions(
            loaded.root, hub, loaded.config.store.concurrency, rehash, trust_on_first_use, display
        )
        files = fetch_artifacts(image_artifacts(loaded, name), store, options)
    display.finish(files)
    receipt.write(key, files, store)


@task()
def verify(
    loaded: "LoadedConfig",
    delete: Annotated[bool, "delete the damaged files, to be fetched again"] = False,
) -> None:
    """Read every file of the store and report damaged ones."""
    from scripts.host.models import store_maintenance
    from scripts.host.models.models_display import objects_table, open_display
    from scripts.host.models.store import Store

    store = Store(loaded.store)
    with open_display() as display:
        checked = store_maintenance.verify_objects(
            store, lambda path: display.labelled(path.name[:16], {})
        )
    say(objects_table(checked))
    damaged = [each.path for each in checked if each.damage]
    if delete:
        store_maintenance.delete(damaged)
    elif damaged:
        warn(f"{len(damaged)} damaged - run: invoke models.verify --delete, then models.prefetch")
        sys.exit(1)


@task(name="list")
def list_(
    loaded: "LoadedConfig",
    container: Annotated[str, "name of a running worker: show what its WebUI sees instead"] = "",
    json: Annotated[bool, "print JSON, with --container"] = False,
) -> None:
    """Show every model: source, place, and whether it is here."""
    if container:
        from scripts.host.worker_command import run_in_worker

        run_in_worker(container, ["models", *(["--json"] if json else [])])
        return
    from scripts.host.models.models_display import models_table
    from scripts.host.models.store import Store

    say(models_table(loaded, Store(loaded.store)))


@task(positional=["name", "source"])
def add(
    _: Context,
    name: Annotated[str, "name of the model in tasks"],
    source: Annotated[str, "hub:owner/repo/file, an address, or the path of a file"],
    kind: Annotated[str, "what it is for the WebUI, such as lora or vae; decides its place"] = "",
    family: Annotated[str, "of an upscaler and the like, such as SwinIR; default: by name"] = "",
    path: Annotated[str, "absolute path, or with a kind relative to the kind's folder"] = "",
    revision: Annotated[str, "branch, tag or commit of a Hub repository; default: main"] = "",
    sha256: Annotated[str, "expected SHA-256; a URL needs one"] = "",
    placement: Annotated[str, "image, or volume"] = "image",
    allow_pickle: Annotated[bool, "accept .ckpt and .pt, which run code when loaded"] = False,
    licence: Annotated[str, "licence of the model, shown by models.list and a label"] = "",
) -> None:
    """Add a model to config.yaml."""
    from scripts.host.config.load import ROOT
    from scripts.host.models import config_edit

    entry = config_edit.model_entry(
        name, source, path, kind=kind, family=family, revision=revision, sha256=sha256,
        placement=placement, allow_pickle=allow_pickle, licence=licence,
    )  # fmt: skip
    config_edit.add_model(ROOT, entry)
    say(f"added {name} to config.yaml; pin it with: invoke pin")


@task(positional=["name"])
def remove(_: Context, name: Annotated[str, "the model"]) -> None:
    """Take a model out of config.yaml and the lock.

    The store keeps it until models.prune.
    """
    from scripts.host.config.load import ROOT
    from scripts.host.models import config_edit

    config_edit.remove_model(ROOT, name)
    say(f"removed {name} from config.yaml; free its space with: invoke models.prune")


@task()
def prune(loaded: "LoadedConfig", yes: Annotated[bool, "delete without asking"] = False) -> None:
    """Show what no config names, and delete it if you agree."""
    from scripts.host.models import store_maintenance
    from scripts.host.models.models_display import unused_table
    from scripts.host.models.store import Store

    store = Store(loaded.store)
    unused = store_maintenance.find_unused(loaded, store)
    if not unused:
        say("nothing to delete")
        return
    say(unused_table(unused, store))
    if not yes and not sys.stdin.isatty():
        note("nothing was deleted: add --yes")
        return
    if yes or input("delete these? [y/N] ").strip().lower() in ("y", "yes"):
        store_maintenance.delete([each.path for each in unused])
        say(f"freed {size(sum(each.size for each in unused))}")


@task(positional=["name"])
def path(loaded: "LoadedConfig", name: Annotated[str, "the model"]) -> None:
    """Print the path of a model's verified file, or fail."""
    from scripts.host.models.artifacts import image_artifacts
    from scripts.host.models.prefetch import verified_path
    from scripts.host.models.store import Store

    say(str(verified_path(image_artifacts(loaded, [name]), Store(loaded.store))))
