"""Build an image: fetch extensions, models beside a prebuild, run buildx, write the report."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.files import write_atomically
from scripts.host.build.build_progress import BuildProgress, step_records
from scripts.host.build.buildx import (
    CERTIFICATES,
    DOWNLOAD,
    MODELS,
    output_options,
    prebuild,
    run_buildx,
)
from scripts.host.build.checkpoint_server import served_checkpoint
from scripts.host.build.inputs import (
    EXTENSIONS,
    FINAL_STAGE,
    INSTALLED,
    BuildInputs,
    BuildOptions,
)
from scripts.host.build.lock_problem import find_lock_problem
from scripts.host.build.rebuild_difference import find_difference
from scripts.host.build.second_builder import second_builder
from scripts.host.build.system_packages import SYSTEM_PACKAGES, apt_arguments
from scripts.host.certificates import certificate_context
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.console import note, warn
from scripts.host.engine.client import builder_driver, client, probe
from scripts.host.extensions.extensions_context import staged_extensions
from scripts.host.extensions.fetch_extensions import fetch_extensions
from scripts.host.models.hub_client import Hub
from scripts.host.models.models_context import staged_context
from scripts.host.models.models_display import open_display
from scripts.host.models.prefetch import PrefetchOptions, prefetch
from scripts.host.models.store import Store
from scripts.host.reports.build_report import BuildReport, hit_ratio, layer_records

# An installer may look for its model, so it must not run without.
_STAGES_WITH_MODELS = (MODELS, "installing", INSTALLED, "baked", FINAL_STAGE)


def build_image(inputs: BuildInputs, options: BuildOptions) -> BuildReport:
    """Build one image and write its report.

    Raises:
        UserError: an unpinned input with `locked`, a model that cannot be downloaded, a failed
            build.
    """
    has_models = options.target in _STAGES_WITH_MODELS
    has_downloads = options.target == DOWNLOAD or (has_models and not options.prefetch)
    _check(inputs, options, has_downloads=has_downloads)
    if has_models and not options.prefetch:
        _require_no_further_models(inputs)
    engine = probe()
    driver = builder_driver(options.builder or inputs.config.build.builder)
    outputs = output_options(inputs, options, engine, driver)
    # The second builder of `--verify` may have a network of its own.
    is_near = driver == "docker" and engine.is_here and not options.verify
    is_served = is_near and options.target == FINAL_STAGE
    prebuilt, served = BuildProgress(), dict[str, str]()
    with ExitStack() as stack:
        contexts: dict[str, Path] = {}
        certificates = stack.enter_context(certificate_context(inputs.ca_bundle))
        if certificates:
            contexts[CERTIFICATES] = certificates
        if inputs.extensions:
            contexts[EXTENSIONS] = stack.enter_context(_extensions_context(inputs, options))
        if has_models and options.prefetch:
            store = Store(inputs.store)
            stored = store.find_stored(inputs.artifacts)
            if not options.no_cache and len(stored) < len(inputs.artifacts):
                note("what needs no model is built while the models are downloaded")
                prebuilt = stack.enter_context(prebuild(inputs, options, contexts))
            hub = Hub.from_config(inputs)
            with open_display(plain=options.progress != "auto") as display:
                limit = inputs.config.store.concurrency
                settings = PrefetchOptions(inputs.root, hub, limit, display=display)
                files = prefetch(inputs.artifacts, store, settings, stored)
            baked = (each for each in files if str(each.image_path) == CHECKPOINT_PATH)
            if is_served and (checkpoint := next(baked, None)):
                served |= stack.enter_context(served_checkpoint(files.pop(checkpoint)))
            context = staged_context(store, files, inputs.volume_artifacts, inputs.cached_artifacts)
            contexts[MODELS] = stack.enter_context(context)
        started = time.monotonic()
        try:
            image_id, progress = run_buildx(inputs, options, contexts, outputs, served)
        except UserError as error:
            if error.code != "snapshot-unreachable" or options.locked:
                raise
            warn(f"{diagnostics()[error.code].message}: building with the packages of today")
            inputs = _without_snapshot(inputs)
            image_id, progress = run_buildx(inputs, options, contexts, outputs, served)
        seconds = time.monotonic() - started
        if options.verify:
            _verify(inputs, options, contexts, image_id)
    image = client().images.get(image_id)
    steps = step_records(progress, prebuilt)
    report = BuildReport(
        image_id=image.id,
        tags=tuple(image.tags),
        variant=inputs.variant,
        target=options.target,
        size=image.attrs["Size"],
        seconds=round(seconds, 3),
        context_bytes=progress.context_bytes,
        cache_hit_ratio=hit_ratio(steps),
        unpinned=inputs.unpinned,
        layers=layer_records(image.history()),
        steps=steps,
    )
    path = inputs.root / "reports" / "build.json"
    write_atomically(path, f"{report.model_dump_json(indent=2)}\n")
    return report


def _without_snapshot(inputs: BuildInputs) -> BuildInputs:
    """Return the inputs of a build with today's system packages."""
    arguments = {**inputs.arguments, **apt_arguments(inputs.config.mirrors.apt, None)}
    return replace(inputs, arguments=arguments, unpinned=(*inputs.unpinned, SYSTEM_PACKAGES))


def _verify(
    inputs: BuildInputs, options: BuildOptions, contexts: Mapping[str, Path], image_id: str
) -> None:
    """Build again in a second builder without cache, compare, and remove what that made.

    Raises:
        UserError: the second image differs from the first; names the first file that does.
    """
    engine = client()
    with second_builder() as name:
        options = replace(options, builder=name or options.builder, no_cache=True)
        note(f"building again without cache{f' in {name}' if name else ''}, to compare")
        driver = builder_driver(options.builder or inputs.config.build.builder)
        load = output_options(inputs, options, probe(), driver)[0]
        again_id, _ = run_buildx(inputs, options, contexts, [load])
    try:
        images = engine.images.get(image_id), engine.images.get(again_id)
        if difference := find_difference(engine, *images):
            raise UserError(location=difference, code="not-reproducible")
    finally:
        if again_id != image_id:
            engine.images.remove(again_id, force=True)
    note("the second image is the same")


@contextmanager
def _extensions_context(inputs: BuildInputs, options: BuildOptions) -> Iterator[Path]:
    """Fetch the extensions, and lay them out until the block ends."""
    with open_display(plain=options.progress != "auto") as display:
        fetched = fetch_extensions(inputs, inputs.extensions, display)
    with staged_extensions(inputs, fetched) as folder:
        yield folder


def _check(inputs: BuildInputs, options: BuildOptions, *, has_downloads: bool) -> None:
    """Refuse a build that cannot succeed, and warn about unpinned inputs."""
    if inputs.unpinned:
        message = f"not pinned: {', '.join(inputs.unpinned)}"
        if options.locked:
            raise UserError(message, location="--locked", code="unpinned")
        warn(f"{message} - run: invoke pin")
    if problem := find_lock_problem(inputs):
        raise UserError(problem, location="build.requirements", code="packages-unlocked")
    if has_downloads and inputs.cached_artifacts:
        raise UserError(
            "the Dockerfile alone does not list what the cached checkpoint must be",
            location="--no-prefetch",
            hint="build without --no-prefetch",
        )
    if has_downloads and "MODEL_REPO" not in inputs.arguments:
        raise UserError(
            f"the download stage fetches from the Hub only, not the model at {CHECKPOINT_PATH}",
            location="--no-prefetch",
            hint="build without --no-prefetch",
        )


def _require_no_further_models(inputs: BuildInputs) -> None:
    """Refuse a build without the context `models` that would leave models out.

    Raises:
        UserError: there are models besides the checkpoint and the tokenizer.
    """
    tokenizer = inputs.arguments.get("VOCABULARY_REPO")
    further = dict.fromkeys(
        each.model.name
        for each in (*inputs.artifacts, *inputs.volume_artifacts)
        if each.model.target != CHECKPOINT_PATH
        and not (each.model.layout == "hub-cache" and each.repo == tokenizer)
    )
    if further:
        raise UserError(
            "the download stage fetches only the checkpoint and the tokenizer,"
            f" not {', '.join(further)}",
            location="--no-prefetch",
            hint="build without --no-prefetch",
        )
