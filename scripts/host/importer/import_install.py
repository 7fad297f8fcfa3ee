"""Import an existing install: find what it holds, and plan the change of the config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ProgressCallback
from scripts.common.models.weights import auxiliary_weights
from scripts.common.units import size
from scripts.host.config.load import LoadedConfig
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.console import printable, table
from scripts.host.importer.config_write import has_local_models
from scripts.host.importer.extension_entries import plan_extensions
from scripts.host.importer.found_extensions import find_extensions
from scripts.host.importer.import_plan import ImportPlan, plan_models
from scripts.host.importer.installed_models import find_models, read_models
from scripts.host.importer.model_origins import find_origins
from scripts.host.importer.user_flags import LeftOut
from scripts.host.importer.user_settings import read_user_settings
from scripts.host.importer.webui_install import find_install
from scripts.host.models.artifacts import artifacts_of
from scripts.host.models.store import Store

_CHOOSE_VAE: Final = ("Automatic", "None")  # values of the setting sd_vae that name no file


@dataclass(frozen=True)
class ImportOptions:
    """Settings of an import.

    Args:
        offline: ask neither the Hub nor Civitai for sources.
        allow_pickle: import pickles of kinds that commonly are none.
        rehash: read every file, also those hashed before.
    """

    offline: bool = False
    allow_pickle: bool = False
    rehash: bool = False


def plan_import(
    folder: Path,
    loaded: LoadedConfig,
    options: ImportOptions,
    *,
    on_progress: ProgressCallback,
    warn: Callable[[str], None],
) -> ImportPlan:
    """Find what an install holds; nothing in its folder is run or written.

    Args:
        folder: of the WebUI, its data, or a volume.
        loaded: config to import into.
        options: settings.
        on_progress: called with the bytes hashed.
        warn: called with what the result may lack.

    Raises:
        UserError: the folder cannot be read, or has nothing to import.
    """
    release, store, webui = loaded.config.a1111.release, Store(loaded.store), loaded.config.webui
    install = find_install(folder.absolute())
    if install.release not in ("", release):
        warn(f"the install is {install.release}, the image will have {release}: see --variant")
    settings = read_user_settings(install.data / "config.json", release)
    found, unseen = find_models(install)
    models, refused = read_models(
        found,
        store,
        release=release,
        allow_pickle=options.allow_pickle,
        trusted={row.sha256: row.size for row in auxiliary_weights() if row.sha256 and row.size},
        rehash=options.rehash,
        on_progress=on_progress,
    )
    hashes = [model.sha256 for model in models]
    origins = find_origins(hashes, loaded, offline=options.offline, warn=warn)
    configured = loaded.config.all_models
    known = {
        model.name: {store.known_sha256(each) for each in artifacts_of(loaded, [model])}
        for model in configured
    }
    plan = plan_models(
        models,
        origins,
        configured,
        known,
        settings.checkpoint,
        keep_start=has_local_models(loaded.root),
    )
    chosen, missing = _adapt_settings(settings.changed, plan)
    found_extensions = find_extensions(install.data, settings.disabled_extensions)
    extensions, unbaked = plan_extensions(found_extensions, loaded.config.extensions)
    unusable = LeftOut("settings that are not of the WebUI alone", ", ".join(settings.unusable))
    plan = replace(
        plan,
        flags=tuple(flag for flag in install.flags.carried if flag not in webui.flags.add),
        settings={
            name: value for name, value in chosen.items() if webui.settings.get(name) != value
        },
        extensions=extensions,
        left_out=(
            *unseen,
            *refused,
            *plan.left_out,
            *missing,
            *install.missing,
            *install.flags.left_out,
            *unbaked,
            *([unusable] if settings.unusable else ()),
        ),
    )
    if not (models or refused or install.flags.carried or settings.changed or found_extensions):
        raise UserError(
            "nothing to import was found",
            location=str(folder),
            hint="give the folder that holds `models`, or a volume with it",
        )
    return plan


def _adapt_settings(
    settings: Mapping[str, Any], plan: ImportPlan
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Return the settings, and what names a VAE that the image does not have.

    The WebUI would use the checkpoint's own VAE then (`resolve_vae_from_setting` in
    `modules/sd_vae.py`).
    """
    vae = settings.get("sd_vae", _CHOOSE_VAE[0])
    if vae in _CHOOSE_VAE or vae in plan.vaes:
        return dict(settings), []
    rest = {name: value for name, value in settings.items() if name != "sd_vae"}
    return rest, [LeftOut("the setting sd_vae", f"its VAE {vae} is not imported")]


def render_plan(plan: ImportPlan, width: int) -> str:
    """Return a table of the models, and below it what else was found and what is left out."""
    rows = [
        (
            planned.entry["name"],
            f"{planned.model.placed.kind} {planned.model.placed.family}".rstrip(),
            size(planned.model.size),
            planned.found_at,
            "at start" if planned.entry.get("path") == CHECKPOINT_PATH else "",
        )
        for planned in plan.models
    ]
    header = ("model", "kind", "size", "source", "loaded")
    parts = [table(header, rows, right=(2,), width=width)] if rows else []
    total = sum(planned.model.size for planned in plan.models)
    parts.append(f"{len(rows)} models to import, {size(total)}")
    if plan.known:
        parts.append(f"{len(plan.known)} models are in the config already")
    if plan.flags:
        parts.append(f"flags: {' '.join(plan.flags)}")
    if plan.settings:
        parts.append(f"settings: {', '.join(plan.settings)}")
    parts += [f"extension: {each['repo']} at {each['commit']}" for each in plan.extensions]
    parts += [printable(f"left out: {each.name}: {each.reason}") for each in plan.left_out]
    if local := [planned for planned in plan.models if planned.is_local]:
        parts.append(
            f"{len(local)} models are known on this machine only (source file); upload them before"
            " another machine builds"
        )
    if plan.start and plan.models:
        renamed = (
            f", and named {plan.start_name} by the WebUI" if plan.start_name != plan.start else ""
        )
        parts.append(f"{plan.start} is loaded at start{renamed}")
    return "\n".join(parts)
