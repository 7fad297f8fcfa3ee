"""Download the models that a job names by address, and make the WebUI use them for this job."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import VerifiedFile, redact_url
from scripts.common.models.kinds import Kind, data_path
from scripts.container.serverless.availability.accepted_names import Kind as NamedKind
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.job_downloads.downloaded_models import DownloadedModels
from scripts.container.serverless.job_downloads.job_models import DownloadPolicy, JobModel
from scripts.container.webui.model_links import add_link

CHECKPOINT_OPTION: Final = "sd_model_checkpoint"

_NAMES: Final[Mapping[Kind, NamedKind]] = {"lora": "LoRA file", "checkpoint": "checkpoint"}
"""By kind: what the WebUI's list of it holds."""

_DRAWING: Final = ("txt2img", "img2img")
_PROGRESS_INTERVAL: Final = 1.0  # seconds between two reports


@dataclass(frozen=True)
class ModelSetup:
    """Folders, limits and callbacks for models by address.

    Args:
        policy: what jobs may name.
        data_dir: the WebUI's data folder, in which models are linked.
        store: where they are kept.
    """

    policy: DownloadPolicy
    data_dir: Path
    store: DownloadedModels


@dataclass(frozen=True)
class ReadyModel:
    """A model that the WebUI can use.

    Args:
        model: as the job names it.
        file: its verified file.
        link: to the file, in the data folder.
    """

    model: JobModel
    file: VerifiedFile
    link: Path

    @property
    def name(self) -> str:
        """Return its name in the WebUI."""
        return self.link.stem

    def report(self) -> dict[str, Any]:
        """Return what the answer says about it."""
        return {
            "kind": self.model.kind,
            "name": self.name,
            "url": redact_url(self.model.url),
            "sha256": self.file.sha256,
            "bytes": self.file.size,
            "state": self.file.state,
        }


@contextmanager
def models_ready(
    setup: ModelSetup,
    available: Available,
    models: Sequence[JobModel],
    *,
    deadline: float,
    report: Callable[[dict[str, Any]], None] | None,
) -> Iterator[list[ReadyModel]]:
    """Have models downloaded, linked and known to the WebUI until the block ends.

    Args:
        setup: what that needs.
        available: what the WebUI lists.
        models: named by the job.
        deadline: active time at which they must be there.
        report: sends progress of the job.

    Raises:
        UserError: one cannot be downloaded, or the WebUI does not see it; names the field.
    """
    with ExitStack() as stack:
        ready = []
        for model in models:
            progress = _Progress(model.spec.name, report)
            try:
                file = stack.enter_context(
                    setup.store.held(model.spec, model.key, deadline=deadline, on_progress=progress)
                )
                ready.append(ReadyModel(model, file, _link(setup.data_dir, model, file)))
            except UserError as error:
                message = f"{model.field}: {error.message}"
                raise UserError(
                    message, location=error.location, hint=error.hint, code=error.code
                ) from None
            except OSError as error:
                reason = f"{model.field}: it cannot be kept: {error.strerror}"
                hint = "check that the network volume is mounted and writable"
                raise UserError(reason, hint=hint, code="store-unwritable") from None
        for kind in _NAMES:
            names = [each.name for each in ready if each.model.kind == kind]
            _make_visible(available, kind, names)
        yield ready


def refuse_unusable(route: str, fields: Mapping[str, Any], models: Sequence[JobModel]) -> None:
    """Refuse models that a request has no use for, before they are downloaded.

    Raises:
        UserError: the route draws nothing, or the job names another checkpoint too (code
            `input-invalid`).
    """
    if models and route not in _DRAWING:
        hint = f"models by address are for {' and '.join(_DRAWING)}"
        raise UserError(f"{models[0].field}: {route} uses none", hint=hint, code="input-invalid")
    options = fields.get("override_settings")
    if isinstance(options, dict) and options.get(CHECKPOINT_OPTION):
        for model in models:
            if model.kind == "checkpoint":
                other = f"override_settings.{CHECKPOINT_OPTION}"
                message = f"{model.field} and {other} name two checkpoints"
                raise UserError(message, hint="leave one out", code="input-invalid")


def add_to_request(fields: dict[str, Any], ready: Sequence[ReadyModel]) -> None:
    """Name models in the fields of a request: LoRAs in the prompt, a checkpoint as option."""
    for each in ready:
        if each.model.kind == "lora":
            tag = f"<lora:{each.name}:{each.model.weight:g}>"
            fields["prompt"] = f"{fields.get('prompt') or ''} {tag}".strip()
        else:
            options = fields.get("override_settings") or {}
            fields["override_settings"] = {**options, CHECKPOINT_OPTION: each.name}


def check_use(ready: Sequence[ReadyModel], info: Mapping[str, Any]) -> None:
    """Check after drawing that the WebUI has used the models.

    It draws without a LoRA whose file is gone, and with another checkpoint, and says so in its log
    only.

    Args:
        ready: the models.
        info: of the answer, parsed.

    Raises:
        UserError: a file is gone (code `job-model-lost`), or another checkpoint has drawn (code
            `model-not-loaded`).
    """
    for each in ready:
        try:
            is_there = each.link.resolve() == each.file.path.resolve() and each.link.exists()
        except OSError:
            is_there = False
        if not is_there:
            raise UserError(location=each.model.field, code="job-model-lost")
        drawn_by = info.get("sd_model_name")
        if each.model.kind == "checkpoint" and drawn_by is not None and drawn_by != each.name:
            message = f"{each.model.field}: the WebUI drew with {drawn_by} instead"
            raise UserError(message, code="model-not-loaded")


class _Progress:
    """Report the progress of a download, not too often."""

    def __init__(self, name: str, report: Callable[[dict[str, Any]], None] | None) -> None:
        self._name, self._report, self._next = name, report, 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if self._report and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_INTERVAL
            self._report({"download": self._name, "bytes": done, "total": total})


def _link(data_dir: Path, model: JobModel, file: VerifiedFile) -> Path:
    """Link a file into the data folder, under a name that only its content has."""
    place = data_path(model.kind, f"job-{file.sha256[:16]}.safetensors")
    try:
        add_link(data_dir, str(place), file.path)
    except OSError as error:
        reason = f"it cannot be linked: {error.strerror}"
        raise UserError(reason, location=str(data_dir), code="models-unseen") from None
    return data_dir / place


def _make_visible(available: Available, kind: Kind, names: Sequence[str]) -> None:
    """Have the WebUI look for files again, unless it lists all names.

    Raises:
        UserError: it does not list them then either (code `models-unseen`), or does not answer.
    """
    if not _find_unlisted(available, kind, names):
        return
    available.reload([_NAMES[kind]])
    if unseen := _find_unlisted(available, kind, names):
        message = f"the WebUI does not list {unseen[0]} of kind {kind}"
        raise UserError(message, code="models-unseen")


def _find_unlisted(available: Available, kind: Kind, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    listed = available.names(_NAMES[kind])
    return [name for name in names if not listed or name not in listed.accepted]
