"""Find the image's own checkpoint, and the one that MODEL_PATH names, for the WebUI's start."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from scripts.common.models.kinds import COMPANION_SUFFIXES, VAE_SUFFIXES, data_path
from scripts.common.models.layouts import PlacedModel
from scripts.common.models.model_search import FoundModel, Rule, measure_files
from scripts.container.paths import list_volume_models
from scripts.container.settings import VARIABLES, Settings

UNLINKED_RULES: Final = ("data-folder", "model-dir", "model-path")
"""Rules of models that the WebUI sees without a link."""

_LAST: Final = 1_000_000  # rank after all folders


def find_baked(settings: Settings, others: Iterable[FoundModel]) -> Iterator[FoundModel]:
    """Yield the image's own checkpoint under its name, with the files that belong to it.

    The WebUI finds a checkpoint's configuration and VAE by the checkpoint's name
    (`find_checkpoint_config_near_filename` in `modules/sd_models_config.py`,
    `find_vae_near_checkpoint` in `modules/sd_vae.py`), so they take its name too.
    """
    baked = baked_checkpoint()
    beside = [baked.with_suffix(suffix) for suffix in (*COMPANION_SUFFIXES, *VAE_SUFFIXES)]
    there = measure_files([baked, *beside], settings.model_scan_timeout)
    if baked not in there:
        return
    taken = {
        each.placed.name
        for each in others
        if each.placed.kind == "checkpoint" and each.rule in UNLINKED_RULES
    }
    # Of two that the WebUI finds itself under one name it would load the other one.
    name = baked.name if settings.checkpoint_name in taken else settings.checkpoint_name
    companions = [path.name for path in beside if path in there]
    if name != baked.name:
        companions += [
            str(each.path)
            for each in others
            if each.rule == "image"
            and each.path.name.startswith(baked.stem)
            and each.path.name.endswith(VAE_SUFFIXES)
        ]
    yield place_checkpoint(baked, name, "image", tuple(companions))


def baked_checkpoint() -> Path:
    """Return the path of the image's own checkpoint."""
    return Path(VARIABLES["MODEL_PATH"].default)


def place_checkpoint(
    path: Path, name: str, rule: Rule, companions: tuple[str, ...] = ()
) -> FoundModel:
    """Return a checkpoint that lies in no folder of models; those that do come before it."""
    place = data_path("checkpoint", name)
    placed = PlacedModel("checkpoint", "", name, place)
    return FoundModel(placed, path, rule, path.parent, companions, rank=_LAST)


def find_named_path(settings: Settings, checkpoints: Iterable[FoundModel]) -> Path | None:
    """Return the path that MODEL_PATH names; None for the name of a checkpoint that was found.

    A name may also be that of a file that was fetched at start into a folder of no layout.
    """
    wanted = settings.model_path
    if wanted.is_absolute():
        return wanted
    if any(is_named(str(wanted), model.placed.name) for model in checkpoints):
        return None
    fetched = (path for path in list_volume_models(settings) if is_named(str(wanted), path.name))
    return next(fetched, None)


def is_named(wanted: str, name: str) -> bool:
    """Return whether MODEL_PATH means a checkpoint: its name, file name or that without suffix."""
    path = PurePosixPath(name)
    return wanted in (name, path.name, path.stem)
