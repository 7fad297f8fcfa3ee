"""Read from a config what the smoke test expects of its image."""

from scripts.common.checks.expectations import Expectations
from scripts.common.checks.model_checks import BakedModel
from scripts.host.config.load import LoadedConfig
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.models.artifacts import image_artifacts


def make_expectations(loaded: LoadedConfig) -> Expectations:
    """Return the expectations of a config's image.

    Raises:
        UserError: a pickle is not allowed, or config and lock disagree about a model.
    """
    config, models = loaded.config, _list_baked_models(loaded)
    has_checkpoint = any(model.path == CHECKPOINT_PATH for model in models)
    return Expectations(
        variant=loaded.variant,
        release=config.a1111.release,
        targets=config.smoke.targets,
        ready_timeout=config.smoke.ready_timeout,
        stop_timeout=config.smoke.stop_timeout,
        image_size=config.smoke.image_size,
        steps=config.smoke.steps,
        models=models,
        checkpoint=CHECKPOINT_PATH if has_checkpoint else "",
    )


def _list_baked_models(loaded: LoadedConfig) -> tuple[BakedModel, ...]:
    """Return the models that a config bakes in, without configurations and tokenizers."""
    models = []
    for artifact in image_artifacts(loaded):
        model, place = artifact.model, artifact.model.location
        if artifact.spec.kind or place.path == CHECKPOINT_PATH:
            models.append(BakedModel(model.actual_kind, place.family, place.name, place.path))
    return tuple(models)
