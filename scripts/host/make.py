"""The main job: models fetched and verified, image built, report written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from scripts.common.errors import Failure
from scripts.host.certificates import certificate_context
from scripts.host.config.load import Loaded
from scripts.host.console import note, warn
from scripts.host.docker import build, report
from scripts.host.docker.ahead import built_ahead
from scripts.host.docker.arguments import unpinned
from scripts.host.docker.engine import client, probe
from scripts.host.docker.plan import Words, make_plan
from scripts.host.docker.progress import Progress

# Stages that need no model: debugging them must not wait for gigabytes.
MODEL_FREE_STAGES = frozenset(
    (
        *("download", "sources", "clip", "locks", "python", "large", "packages", "checked"),
        *("runpod", "webui", "worker"),
    )
)


def make(
    loaded: Loaded,
    words: Words,
    *,
    prefetch: bool = True,
    locked: bool = False,
    quiet: bool = False,
) -> report.BuildReport:
    """Build one image.

    Args:
        loaded: the config.
        words: what the user asked of this build.
        prefetch: fetch models on the host; otherwise the Dockerfile downloads them.
        locked: make unpinned inputs an error instead of a warning.
        quiet: show no steps.

    Raises:
        Failure: something unpinned under `locked`, a model that cannot be had, a failed build.
    """
    loose = unpinned(loaded)
    if loose and locked:
        raise Failure(f"not pinned: {', '.join(loose)}", where="--locked", cure="run: invoke pin")
    if loose:
        warn(f"not pinned: {', '.join(loose)} - run: invoke pin")
    requirements = loaded.root / loaded.config.build.requirements
    if not requirements.is_file():
        raise Failure(
            "the lock of the image's Python packages is missing",
            where=loaded.config.build.requirements,
            cure=f"run: invoke pin --python --variant {loaded.variant}",
        )
    engine = probe()
    wants_models = prefetch and words.target not in MODEL_FREE_STAGES
    with certificate_context(loaded) as certificates:
        plan = make_plan(loaded, words, engine, certificates, downloads=not wants_models)
        with (
            _ahead(loaded, plan, wanted=wants_models and not words.no_cache) as earlier,
            _with_models(loaded, plan, wanted=wants_models) as whole,
        ):
            built = build.run(whole, quiet=quiet)
    result = _report(loaded, words, built, loose, report.step_records(built.progress, earlier))
    report.write(result, loaded.root / "reports" / "build.json")
    return result


@contextmanager
def _ahead(loaded: Loaded, plan: build.Plan, *, wanted: bool) -> Iterator[Progress]:
    """What is built while models are fetched; nothing where all of them are there."""
    from scripts.host.models.prefetch import all_cached

    if not wanted or all_cached(loaded):
        yield Progress()
        return
    note("what needs no model is built beside the download")
    with built_ahead(plan) as earlier:
        yield earlier


@contextmanager
def _with_models(loaded: Loaded, plan: build.Plan, *, wanted: bool) -> Iterator[build.Plan]:
    """The plan with the named context `models`, whose folder is there until the block ends."""
    if not wanted:
        yield plan
        return
    from scripts.host.models.context import staged_context
    from scripts.host.models.display import prefetch_shown

    with staged_context(loaded, prefetch_shown(loaded, summary=False)) as folder:
        yield replace(plan, contexts={**plan.contexts, build.MODELS: folder})


def _report(
    loaded: Loaded,
    words: Words,
    built: build.Built,
    loose: tuple[str, ...],
    steps: tuple[report.StepRecord, ...],
) -> report.BuildReport:
    image = client().images.get(built.image_id)
    return report.BuildReport(
        image_id=image.id,
        tags=tuple(image.tags),
        variant=loaded.variant,
        target=words.target,
        size=image.attrs["Size"],
        seconds=round(built.seconds, 3),
        context_bytes=built.progress.context_bytes,
        cache_hit_ratio=report.hit_ratio(steps),
        unpinned=loose,
        layers=report.layer_records(image.history()),
        steps=steps,
    )
