"""The main job: models fetched and verified, image built, report written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from scripts.common.diagnostics.error import UserError
from scripts.host.build import buildx
from scripts.host.build.arguments import unpinned
from scripts.host.build.plan import Words, make_plan
from scripts.host.build.prebuild import built_ahead
from scripts.host.build.progress import Progress
from scripts.host.certificates import certificate_context
from scripts.host.config.load import LoadedConfig
from scripts.host.console import note, warn
from scripts.host.engine.client import client, probe
from scripts.host.reports import build_report

# Stages that need no model: debugging them must not wait for gigabytes.
MODEL_FREE_STAGES = frozenset(
    (
        *("download", "sources", "clip", "locks", "python", "large", "packages", "checked"),
        *("runpod", "webui", "worker"),
    )
)


def make(
    loaded: LoadedConfig,
    words: Words,
    *,
    prefetch: bool = True,
    locked: bool = False,
    quiet: bool = False,
) -> build_report.BuildReport:
    """Build one image.

    Args:
        loaded: the config.
        words: what the user asked of this build.
        prefetch: fetch models on the host; otherwise the Dockerfile downloads them.
        locked: make unpinned inputs an error instead of a warning.
        quiet: show no steps.

    Raises:
        UserError: something unpinned under `locked`, a model that cannot be had, a failed build.
    """
    loose = unpinned(loaded)
    if loose and locked:
        raise UserError(
            f"not pinned: {', '.join(loose)}", location="--locked", hint="run: invoke pin"
        )
    if loose:
        warn(f"not pinned: {', '.join(loose)} - run: invoke pin")
    requirements = loaded.root / loaded.config.build.requirements
    if not requirements.is_file():
        raise UserError(
            "the lock of the image's Python packages is missing",
            location=loaded.config.build.requirements,
            hint=f"run: invoke pin --python --variant {loaded.variant}",
        )
    engine = probe()
    wants_models = prefetch and words.target not in MODEL_FREE_STAGES
    with certificate_context(loaded) as certificates:
        plan = make_plan(loaded, words, engine, certificates, downloads=not wants_models)
        with (
            _ahead(loaded, plan, wanted=wants_models and not words.no_cache) as earlier,
            _with_models(loaded, plan, wanted=wants_models) as whole,
        ):
            built = buildx.run(whole, quiet=quiet)
    result = _report(
        loaded, words, built, loose, build_report.step_records(built.progress, earlier)
    )
    build_report.write(result, loaded.root / "reports" / "build.json")
    return result


@contextmanager
def _ahead(loaded: LoadedConfig, plan: buildx.Plan, *, wanted: bool) -> Iterator[Progress]:
    """What is built while models are fetched; nothing where all of them are there."""
    from scripts.host.models.prefetch import all_cached

    if not wanted or all_cached(loaded):
        yield Progress()
        return
    note("what needs no model is built beside the download")
    with built_ahead(plan) as earlier:
        yield earlier


@contextmanager
def _with_models(loaded: LoadedConfig, plan: buildx.Plan, *, wanted: bool) -> Iterator[buildx.Plan]:
    """The plan with the named context `models`, whose folder is there until the block ends."""
    if not wanted:
        yield plan
        return
    from scripts.host.models.context import staged_context
    from scripts.host.models.progress_display import prefetch_shown

    with staged_context(loaded, prefetch_shown(loaded, summary=False)) as folder:
        yield replace(plan, contexts={**plan.contexts, buildx.MODELS: folder})


def _report(
    loaded: LoadedConfig,
    words: Words,
    built: buildx.Built,
    loose: tuple[str, ...],
    steps: tuple[build_report.StepRecord, ...],
) -> build_report.BuildReport:
    image = client().images.get(built.image_id)
    return build_report.BuildReport(
        image_id=image.id,
        tags=tuple(image.tags),
        variant=loaded.variant,
        target=words.target,
        size=image.attrs["Size"],
        seconds=round(built.seconds, 3),
        context_bytes=built.progress.context_bytes,
        cache_hit_ratio=build_report.hit_ratio(steps),
        unpinned=loose,
        layers=build_report.layer_records(image.history()),
        steps=steps,
    )
