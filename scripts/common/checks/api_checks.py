"""Checks of a worker by its API alone: what it answers, and the images that it draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from scripts.common.checks.api_requests import (
    DrawnImage,
    draw,
    get_json,
    gpu_memory_used,
    judge_image,
    request,
)
from scripts.common.checks.check import Check, CheckSkipped, Prerequisite, check, judge
from scripts.common.checks.images import Png, difference
from scripts.common.gpu.judge import Judgement, judge_memory_after_jobs
from scripts.common.webui_client import OPTIONS, WebuiClient

GPU_NOISE: Final = 1.0
"""Mean difference of two images of one seed, of 255: GPU libraries add up in changing order."""

_SEED: Final = 1234
_ABOVE_NOISE: Final = 4.0  # a job of its own varies as much as two repetitions did, or some more


def _ignore_image(_name: str, _image: Png) -> None:
    """Keep no image."""


@dataclass
class ApiSubject:
    """A worker's API, and what is expected of it.

    Args:
        client: of the worker.
        image_size: edge of the test images, pixels.
        steps: of the sampler.
        release: tag of the WebUI, `v1.9.3`; empty where it is not known.
        checkpoint: file name of the checkpoint; empty where it is not known.
        tolerance: mean difference, of 255, allowed between two images of one seed.
        keep: called with name and data of each image that a report shows.
        gpu_memory_before: bytes in use before the first job.
        first_image: of txt2img, drawn once for several checks.
        noise: mean difference of the first image to the same one drawn again.

    Raises:
        UserError: the API does not answer.
    """

    client: WebuiClient
    image_size: int
    steps: int
    release: str
    checkpoint: str = ""
    tolerance: float = 0.0
    keep: Callable[[str, Png], None] = _ignore_image
    gpu_memory_before: int = field(init=False)
    first_image: Prerequisite[DrawnImage] = field(init=False)
    noise: Prerequisite[float] = field(init=False)

    def __post_init__(self) -> None:
        self.gpu_memory_before = gpu_memory_used(self.client)
        self.first_image = Prerequisite(self.txt2img)
        self.noise = Prerequisite(self._measure_noise)

    def txt2img(self, addition: str = "", settings: Mapping[str, Any] | None = None) -> DrawnImage:
        """Draw a small image, the same one every time.

        Args:
            addition: end of the prompt.
            settings: options of the WebUI for this job.
        """
        fields = {"override_settings": dict(settings)} if settings else {}
        prompt = f"a lighthouse at dusk{addition}"
        return self._draw("txt2img", prompt=prompt, sampler_name="Euler", **fields)

    def _measure_noise(self) -> float:
        first, second = self.first_image.get().png, self.txt2img().png
        apart = difference(first, second)
        if apart > self.tolerance:
            self.keep("again", second)
        return apart

    def img2img(self, image: Png) -> DrawnImage:
        """Draw on an image."""
        start = [image.base64]
        return self._draw("img2img", prompt="night", init_images=start, denoising_strength=0.9)

    def chosen_checkpoint(self) -> str:
        """Return the checkpoint of the WebUI's options, without its hash."""
        options = request(self.client, OPTIONS).json()
        return str(options["sd_model_checkpoint"]).partition(" [")[0]

    def complete_job(self, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a small job, the same one every time, with fields of another body.

        Args:
            endpoint: txt2img or img2img, which draws on the first image.
            body: its fields count.
        """
        usual: dict[str, Any] = {"prompt": "a lighthouse at dusk", "sampler_name": "Euler"}
        if endpoint == "img2img" and "init_images" not in body:
            usual["init_images"] = [self.first_image.get().png.base64]
        return {**usual, **self._small_job(), **body}

    def judge_change(self, before: Png, after: Png, evidence: str, code: str) -> Judgement:
        """Judge whether an image differs by more than a repetition of the same job does.

        Args:
            before: drawn without what is judged.
            after: drawn with it.
            evidence: further facts.
            code: of a failure.
        """
        if after.size != before.size:
            return judge("; ".join(filter(None, (evidence, f"{after.size}, not {before.size}"))))
        noise, apart = self.noise.get(), difference(before, after)
        shown = f"mean difference {apart:.3f} of 255"
        if apart > noise * _ABOVE_NOISE:
            return judge("; ".join(filter(None, (evidence, shown))))
        problem = f"{shown}, by noise alone {noise:.3f}" if apart else "every pixel is the same"
        return judge(evidence, f"{problem} with and without it", code)

    def _draw(self, endpoint: str, **fields: Any) -> DrawnImage:  # noqa: ANN401 - JSON
        return draw(self.client, f"/sdapi/v1/{endpoint}", {**self._small_job(), **fields})

    def _small_job(self) -> dict[str, Any]:
        size = {"width": self.image_size, "height": self.image_size}
        return {"seed": _SEED, "steps": self.steps, **size}

    def judge_image(self, name: str, image: Png) -> Judgement:
        """Keep an image and judge it."""
        self.keep(name, image)
        return judge_image(image, self.image_size, self.image_size)


@check("checkpoint is listed and chosen", "model-not-loaded")
def checkpoint_is_chosen(subject: ApiSubject) -> Judgement:
    """Compare the WebUI's list of checkpoints, its options and the config."""
    models = get_json(subject.client, "/sdapi/v1/sd-models")
    if not isinstance(models, list):
        return judge("", "the API has no list of models")
    titles = [str(model["title"]) for model in models]
    chosen = subject.chosen_checkpoint()
    evidence = f"{', '.join(titles)}; chosen: {chosen}"
    if chosen not in [title.partition(" [")[0] for title in titles]:
        return judge(evidence, "the chosen one is not listed")
    if not chosen.startswith(subject.checkpoint):
        return judge(evidence, f"configured is {subject.checkpoint}")
    return judge(evidence)


@check("draws an image of the requested size", "not-drawn")
def draws_an_image(subject: ApiSubject) -> Judgement:
    """Draw by txt2img."""
    return subject.judge_image("txt2img", subject.first_image.get().png)


@check("the WebUI is the configured release", "labels-wrong")
def is_configured_release(subject: ApiSubject) -> Judgement:
    """Compare the version in an image's parameters with the config."""
    version = subject.first_image.get().version
    if not subject.release:
        raise CheckSkipped("the configured release is not known")
    if not version:
        raise CheckSkipped("the API does not report the WebUI's version")
    # From git it is v1.9.3; without a history, from the first line of CHANGELOG.md, 1.9.3.
    same = version.removeprefix("v") == subject.release.removeprefix("v")
    return judge(version, "" if same else f"configured is {subject.release}")


@check("the image is drawn by the chosen checkpoint", "model-not-loaded")
def is_drawn_by_chosen_checkpoint(subject: ApiSubject) -> Judgement:
    """Compare the checkpoint in an image's parameters with the options."""
    model = subject.first_image.get().model
    if not model:
        return judge("", "the WebUI does not report which checkpoint drew")
    chosen = PurePosixPath(subject.chosen_checkpoint()).stem
    return judge(f"drawn by {model}", "" if model == chosen else f"chosen is {chosen}")


@check("the same seed draws the same image", "not-repeatable")
def is_repeatable(subject: ApiSubject) -> Judgement:
    """Draw the first image again."""
    apart = subject.noise.get()
    evidence = f"mean difference {apart:.3f} of 255" if apart else "every pixel is the same"
    allowed = apart <= subject.tolerance
    return judge(evidence, "" if allowed else f"allowed is {subject.tolerance:.3f}")


@check("img2img draws on an image", "not-drawn")
def draws_on_an_image(subject: ApiSubject) -> Judgement:
    """Draw on the first image."""
    return subject.judge_image("img2img", subject.img2img(subject.first_image.get().png).png)


@check("draws again after an invalid request", "not-drawn")
def survives_an_invalid_request(subject: ApiSubject) -> Judgement:
    """Send a request with a width that is no number, then a valid one."""
    status = request(subject.client, "/sdapi/v1/txt2img", {"width": "wide"}).status
    if not 400 <= status < 500:
        return judge("", f"an invalid request was answered with {status}")
    subject.txt2img()
    return judge(f"answered with {status}, then drew")


@check("GPU memory is free again after the jobs", "gpu-memory-kept")
def gpu_memory_is_freed(subject: ApiSubject) -> Judgement:
    """Compare GPU memory before the first job and after the last one."""
    if not subject.gpu_memory_before:
        raise CheckSkipped("the worker reports no GPU memory")
    return judge_memory_after_jobs(subject.gpu_memory_before, gpu_memory_used(subject.client))


JOB_CHECKS: Final[tuple[Check[ApiSubject], ...]] = (
    checkpoint_is_chosen,
    draws_an_image,
    is_configured_release,
    is_drawn_by_chosen_checkpoint,
    is_repeatable,
    draws_on_an_image,
    survives_an_invalid_request,
)
AFTER_JOBS_CHECKS: Final[tuple[Check[ApiSubject], ...]] = (gpu_memory_is_freed,)
