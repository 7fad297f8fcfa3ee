"""Make the subject of the checks of models, with what only the worker's container can answer."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.api_requests import get_json, post
from scripts.common.checks.model_checks import BakedModel, ModelSubject
from scripts.common.checks.worker_under_test import WorkerUnderTest, read_settled_log

_WORKER: Final = ("/opt/runpod/bin/python", "-m", "scripts.container")
_READ_BASES: Final = """
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


def make_model_subject(
    worker: WorkerUnderTest, api: ApiSubject, models: Sequence[BakedModel], checkpoint: str
) -> ModelSubject:
    """Return a running worker as the checks of models see it.

    Args:
        worker: in whose container the models are.
        api: of the worker.
        models: of its image.
        checkpoint: path of the one that is chosen at start.
    """
    return ModelSubject(
        api,
        models,
        _read_bases(worker, models),
        checkpoint,
        lambda: read_settled_log(worker),
        partial(_hide, worker, api),
    )


def _read_bases(worker: WorkerUnderTest, models: Sequence[BakedModel]) -> dict[str, str]:
    """Return the base models that the content of safetensors files shows.

    A file that is missing or damaged has none: the check of that model says more.
    """
    if len(models) < 2:
        return {}
    paths = [model.path for model in models]
    return dict(json.loads(worker.run(_WORKER[0], "-c", _READ_BASES, *paths).splitlines()[-1]))


@contextmanager
def _hide(worker: WorkerUnderTest, api: ApiSubject, model: BakedModel) -> Iterator[None]:
    """Remove the worker's link to an embedding until the block ends."""
    flags: Any = get_json(api.client, "/sdapi/v1/cmd-flags")
    worker.run("rm", "-f", f"{flags['data_dir']}/embeddings/{model.name}")
    post(api.client, "/sdapi/v1/refresh-embeddings", {})
    try:
        yield
    finally:
        worker.run(*_WORKER, "models", "--link")
        post(api.client, "/sdapi/v1/refresh-embeddings", {})
