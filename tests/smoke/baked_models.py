"""The models that the image under test is said to hold, and what only its container can tell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.api_requests import get_json, post
from scripts.common.checks.model_checks import BakedModel, ModelSubject
from scripts.host.config.load import LoadedConfig
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.models.artifacts import image_artifacts
from tests.smoke.container_under_test import WorkerContainer

WORKER = ("/opt/runpod/bin/python", "-m", "scripts.container")
_LOG_READS, _LOG_PAUSE = 10, 1.0  # seconds
_READ_BASES = """
import json, sys
from pathlib import Path
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import check_safetensors
from scripts.common.fetch.model_content import describe
bases = {}
for path in sys.argv[1:]:
    try:
        shapes, metadata, _ = check_safetensors(Path(path))
    except (OSError, UserError):
        continue
    bases[path] = describe(shapes, metadata).base
print(json.dumps(bases))
"""


def list_baked_models(loaded: LoadedConfig) -> tuple[BakedModel, ...]:
    """Return the models that a config bakes in, without configurations and tokenizers."""
    models = []
    for artifact in image_artifacts(loaded):
        model, place = artifact.model, artifact.model.location
        if artifact.spec.kind or place.path == CHECKPOINT_PATH:
            models.append(BakedModel(model.actual_kind, place.family, place.name, place.path))
    return tuple(models)


def name_at_start(loaded: LoadedConfig) -> str:
    """Return the name in the WebUI of the checkpoint that the worker loads at start."""
    return next(each.name for each in list_baked_models(loaded) if each.path == CHECKPOINT_PATH)


def make_subject(
    worker: WorkerContainer, api: ApiSubject, models: Sequence[BakedModel]
) -> ModelSubject:
    """Return a running worker as the checks of models see it."""
    return ModelSubject(
        api,
        models,
        _read_bases(worker, models),
        CHECKPOINT_PATH,
        lambda: read_settled_log(worker),
        partial(_hide, worker, api),
    )


def _read_bases(worker: WorkerContainer, models: Sequence[BakedModel]) -> dict[str, str]:
    """Return the base models that the content of safetensors files shows.

    A file that is missing or damaged has none: the check of that model says more.
    """
    if len(models) < 2:
        return {}
    paths = [model.path for model in models]
    return dict(json.loads(worker.run(WORKER[0], "-c", _READ_BASES, *paths).splitlines()[-1]))


def read_settled_log(worker: WorkerContainer) -> str:
    """Return the log once it no longer grows: its lines pass through worker and engine."""
    log = ""
    for _ in range(_LOG_READS):
        before, log = log, worker.log
        if log == before:
            break
        time.sleep(_LOG_PAUSE)
    return log


@contextmanager
def _hide(worker: WorkerContainer, api: ApiSubject, model: BakedModel) -> Iterator[None]:
    """Remove the worker's link to an embedding until the block ends."""
    flags: Any = get_json(api.client, "/sdapi/v1/cmd-flags")
    worker.run("rm", "-f", f"{flags['data_dir']}/embeddings/{model.name}")
    post(api.client, "/sdapi/v1/refresh-embeddings", {})
    try:
        yield
    finally:
        worker.run(*WORKER, "models", "--link")
        post(api.client, "/sdapi/v1/refresh-embeddings", {})
