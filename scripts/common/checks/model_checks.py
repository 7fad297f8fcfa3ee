"""Check that the models in an image are used: a job with each differs from the same without it.

A1111 v1.9.3 and v1.10.1 answer 200 where a model is not there or does not load: an upscaler becomes
Lanczos, a LoRA or hypernetwork is left out, a VAE is the checkpoint's own, a face stays as it was.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.api_requests import get_json, process
from scripts.common.checks.check import Check, CheckSkipped, judge
from scripts.common.checks.images import Png, difference
from scripts.common.checks.interrogator_check import judge_interrogator
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import find_failure
from scripts.common.gpu.judge import Judgement
from scripts.common.models.kinds import Kind
from scripts.common.models.weights import auxiliary_weights

_ENLARGED: Final = 2
_RESAMPLING: Final = ("Lanczos", "Nearest")
_UNUSED: Final = "model-not-used"
_RESTORERS: Final = {"GFPGAN": "GFPGAN", "Codeformer": "CodeFormer"}
_INTERROGATORS: Final = {"BLIP": "clip", "torch_deepdanbooru": "deepdanbooru"}


@dataclass(frozen=True)
class BakedModel:
    """A model that the image is said to hold.

    Args:
        kind: its kind.
        family: its family; empty for a kind without families.
        name: its path below the folder of its kind and family.
        path: absolute path in the image.
    """

    kind: Kind
    family: str
    name: str
    path: str

    @property
    def file(self) -> str:
        """Its file name."""
        return PurePosixPath(self.name).name

    @property
    def stem(self) -> str:
        """Its file name without the suffix."""
        return PurePosixPath(self.name).stem

    @property
    def label(self) -> str:
        """Its name in the WebUI; empty for a file that finds faces, for whatever restorer."""
        if self.kind == "upscaler":
            return _name_upscaler(self.family, self.file)
        if self.kind == "face-restoration":
            name = _RESTORERS[self.family]
            return name if name.lower() in self.file.lower() else ""
        if self.kind == "interrogate":
            return _INTERROGATORS[self.family]
        return self.file if self.kind in ("checkpoint", "vae") else self.stem


@dataclass
class ModelSubject:
    """A worker whose models are checked.

    Args:
        api: its API.
        models: all models that its image is said to hold.
        bases: base model by path, such as SD1 or SDXL, of those whose content shows it.
        checkpoint: path of the checkpoint that is chosen at start.
        read_log: returns all that the worker has printed.
        hide: removes a model from the WebUI's sight until the block ends.
        images: drawn for comparison, by what they were drawn with.
    """

    api: ApiSubject
    models: Sequence[BakedModel]
    bases: dict[str, str]
    checkpoint: str
    read_log: Callable[[], str]
    hide: Callable[[BakedModel], AbstractContextManager[None]]
    images: dict[str, Png] = field(default_factory=dict)

    def reference(self, key: str, make: Callable[[], Png]) -> Png:
        """Return an image for comparison, made once."""
        if key not in self.images:
            self.images[key] = make()
        return self.images[key]

    def judge_change(self, before: Png, after: Png, evidence: str = "") -> Judgement:
        """Judge whether an image differs by more than a repetition of the same job does."""
        return self.api.judge_change(before, after, evidence, _UNUSED)

    def choose_checkpoint(self, model: BakedModel) -> dict[str, str]:
        """Return settings of a job with a checkpoint that a model is made for; empty for none.

        Raises:
            CheckSkipped: there is none.
        """
        base, chosen = self.bases.get(model.path), self.bases.get(self.checkpoint)
        if not base or not chosen or base == chosen:
            return {}
        for other in self.models:
            if other.kind == "checkpoint" and self.bases.get(other.path) == base:
                return {"sd_model_checkpoint": _find_title(self, other)}
        raise CheckSkipped(f"it is made for {base}, and no checkpoint in the image is ({chosen})")


def model_checks(models: Iterable[BakedModel], checkpoint: str) -> list[Check[ModelSubject]]:
    """Return the checks of an image's models: one each, or one for several files of one feature.

    Args:
        models: of the image.
        checkpoint: path of the one that is chosen at start, which other checks are about.
    """
    checks: dict[str, Check[ModelSubject]] = {}
    for model in models:
        made = None if model.path == checkpoint else _make_check(model)
        if made:
            checks.setdefault(made.name, made)
    return list(checks.values()) or [Check("models beside the checkpoint are used", "", _skip)]


def _make_check(model: BakedModel) -> Check[ModelSubject] | None:
    """Return the check of a model; None for one that only extensions or other models use."""
    if model.kind not in _CHECKS or not model.label:
        return None
    name, function = _CHECKS[model.kind]
    return Check(name.format(model.label), _UNUSED, partial(function, model))


def _skip(_subject: ModelSubject) -> Judgement:
    raise CheckSkipped("the image has none")


def _draws(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Draw with a checkpoint, and read which one drew from the image's parameters."""
    drawn = subject.api.txt2img(settings={"sd_model_checkpoint": _find_title(subject, model)})
    judgement = subject.api.judge_image(f"checkpoint-{model.stem}", drawn.png)
    if judgement.outcome != "passed":
        return judgement
    problem = "" if drawn.model == model.stem else f"drawn by {drawn.model or 'an unknown one'}"
    return judge(judgement.evidence, problem, _UNUSED)


def _decodes(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Draw with a VAE, and with the checkpoint's own."""
    _require_listed(subject, "sd-vae", "model_name", model.file)
    own = subject.reference("VAE", lambda: subject.api.txt2img(settings={"sd_vae": "None"}).png)
    drawn = subject.api.txt2img(settings={"sd_vae": model.file})
    if drawn.vae != model.file:
        used = drawn.vae or "the checkpoint's own"
        return judge("", f"the WebUI decoded with {used}", _UNUSED)
    return subject.judge_change(own, drawn.png, "named in the image's parameters")


def _alters(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Draw with a LoRA or hypernetwork in the prompt; A1111 removes its tag in either case."""
    lora = model.kind == "lora"
    _require_listed(subject, "loras" if lora else "hypernetworks", "name", model.stem)
    settings = subject.choose_checkpoint(model)
    title = settings.get("sd_model_checkpoint", "")
    before = subject.api.first_image.get().png
    if settings:
        before = subject.reference(title, lambda: subject.api.txt2img(settings=settings).png)
    tag = f" <{'lora' if lora else 'hypernet'}:{model.stem}:1>"
    after = subject.api.txt2img(tag, settings).png
    return subject.judge_change(before, after, f"with {title}" if title else "")


def _replaces_words(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Draw with an embedding's name in the prompt, once as an embedding and once as plain words."""
    settings = subject.choose_checkpoint(model)

    def draw() -> Png:
        return subject.api.txt2img(f", {model.stem}", settings).png

    with subject.hide(model):
        before = draw()
    # The WebUI keeps what it made of the last prompt, and would not look at the same one again.
    subject.api.txt2img()
    after = draw()
    lists = get_json(subject.api.client, "/sdapi/v1/embeddings") or {}
    loaded = lists.get("loaded", {}).get(model.stem)
    if not loaded:
        skipped = model.stem in lists.get("skipped", {})
        reason = "made for another base model" if skipped else "not found"
        raise UserError(f"the WebUI has not loaded it: {reason}", code="models-unseen")
    return subject.judge_change(before, after, f"loaded, {loaded.get('vectors')} vectors")


def _enlarges(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Enlarge an image, and compare it with what A1111 makes of it without weights."""
    _require_listed(subject, "upscalers", "name", model.label)
    image = subject.api.first_image.get().png

    def enlarge(upscaler: str) -> Png:
        fields: dict[str, Any] = {"upscaler_1": upscaler, "upscaling_resize": _ENLARGED}
        return process(subject.api.client, image, **fields)

    upscaled = enlarge(model.label)
    apart = {}
    for name in _RESAMPLING:
        plain = subject.reference(name, partial(enlarge, name))
        if (plain.width, plain.height) != (upscaled.width, upscaled.height):
            return judge("", f"the image is {upscaled.size}, not {plain.size}", "picture-size")
        apart[name] = difference(plain, upscaled)
    evidence = ", ".join(f"{value:.3f} of 255 from {name}" for name, value in apart.items())
    same = [name for name, value in apart.items() if not value]
    problem = f"the image is that of {same[0]}" if same else ""
    return judge(f"mean difference {evidence}", problem, _UNUSED)


def _restores(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Send an image through a face restorer, and read in the log whether its weights loaded."""
    _require_listed(subject, "face-restorers", "name", model.label)
    image, before = subject.api.first_image.get().png, len(subject.read_log())
    strength = {f"{model.label.lower()}_visibility": 1.0}
    restored = process(subject.api.client, image, upscaling_resize=1, upscaler_1="None", **strength)
    if failure := find_failure(subject.read_log()[before:]):
        return judge("", failure.message, failure.code)
    if (restored.width, restored.height) != (image.width, image.height):
        return judge("", f"the image is {restored.size}, not {image.size}", "picture-size")
    apart = difference(image, restored)
    if apart:
        return judge(f"its weights loaded and changed the image: {apart:.3f} of 255")
    return judge("its weights loaded; that it restores is unproven, for the test image has no face")


def _describes(model: BakedModel, subject: ModelSubject) -> Judgement:
    """Have an image described, and a grey one."""
    image = subject.api.first_image.get().png
    return judge_interrogator(subject.api.client, image, model.label)


def _require_listed(subject: ModelSubject, route: str, key: str, name: str) -> None:
    """Check that the WebUI lists a model.

    Raises:
        UserError: it does not (code `models-unseen`).
    """
    rows = get_json(subject.api.client, f"/sdapi/v1/{route}")
    names = [row.get(key) for row in rows if isinstance(row, dict)] if rows else []
    if name not in names:
        raise UserError(f"{route} of the WebUI does not list {name}", code="models-unseen")


def _find_title(subject: ModelSubject, model: BakedModel) -> str:
    """Return a checkpoint's title, by which a job names it.

    Raises:
        UserError: the WebUI does not list it (code `models-unseen`).
    """
    for row in get_json(subject.api.client, "/sdapi/v1/sd-models") or []:
        if str(row.get("filename", "")).endswith(f"/{model.name}"):
            return str(row["title"])
    raise UserError(f"the WebUI does not list {model.name}", code="models-unseen")


def _name_upscaler(family: str, file: str) -> str:
    """Return the name that the WebUI gives an upscaler: its own for some files, else the stem."""
    if family == "LDSR":
        return family
    for row in auxiliary_weights() if family == "RealESRGAN" else ():
        if row.family == family and PurePosixPath(row.path).name.lower() == file.lower():
            return row.names[0]
    return PurePosixPath(file).stem


_CHECKS: Final[dict[Kind, tuple[str, Callable[[BakedModel, ModelSubject], Judgement]]]] = {
    "checkpoint": ("checkpoint {} draws", _draws),
    "vae": ("VAE {} changes the image", _decodes),
    "lora": ("LoRA {} changes the image", _alters),
    "hypernetwork": ("hypernetwork {} changes the image", _alters),
    "embedding": ("embedding {} changes the image", _replaces_words),
    "upscaler": ("upscaler {} differs from resampling", _enlarges),
    "face-restoration": ("face restorer {} runs", _restores),
    "interrogate": ("interrogator {} describes an image", _describes),
}
"""Name and function of each kind's check."""
