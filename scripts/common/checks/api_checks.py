"""Checks of a worker by its API alone: what it answers, and the images that it draws."""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any, Final

from scripts.common.checks.check import Check, CheckSkipped, Prerequisite, check, judge
from scripts.common.checks.images import MAX_COLOURS, Png, decode_base64, decode_png, difference
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import refine_code
from scripts.common.gpu.judge import Judgement, judge_memory_after_jobs
from scripts.common.webui_client import Response, WebuiClient

GPU_NOISE: Final = 1.0
"""Mean difference of two images of one seed, of 255: GPU libraries add up in changing order."""

_TIMEOUT: Final = 600.0  # seconds of one request; a CPU draws slowly
_POLL: Final = 0.25
_SEED: Final = 1234


@dataclass(frozen=True)
class DrawnImage:
    """An image of the WebUI.

    Args:
        png: decoded.
        model: name of the checkpoint that drew it; empty where the WebUI does not report it.
        version: of the WebUI, likewise.
    """

    png: Png
    model: str = ""
    version: str = ""


def request(
    client: WebuiClient,
    path: str,
    body: Mapping[str, Any] | None = None,
    timeout: float = _TIMEOUT,
) -> Response:
    """GET a path, or POST a body to it.

    Raises:
        UserError: no response, or a login is required.
    """
    try:
        method = "GET" if body is None else "POST"
        response = client.request(method, path, body, timeout=timeout)
    except TimeoutError:
        message, code = f"no answer within {timeout:.0f} s", "not-ready"
    except (ConnectionResetError, HTTPException) as error:
        message, code = f"the connection broke: {error!r}", "webui-died"
    except (OSError, ValueError) as error:
        message, code = f"the API does not answer: {error}", "port-closed"
    else:
        if response.status == 401:
            raise UserError("the API requires a login", location=client.url, code="api-locked")
        return response
    raise UserError(message, location=f"{client.url}{path}", code=code)


def wait_for_api(client: WebuiClient, seconds: float) -> None:
    """Wait until the API answers.

    Raises:
        UserError: it did not in time, or requires a login.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            request(client, "/sdapi/v1/sd-models")
            return
        except UserError as error:
            if error.code == "api-locked":
                raise
            if time.monotonic() > deadline:
                lost = {"location": error.location, "code": "port-closed"}
                raise UserError(error.message, **lost) from None
            time.sleep(_POLL)


def draw(
    client: WebuiClient, path: str, fields: Mapping[str, Any], *, timeout: float = _TIMEOUT
) -> DrawnImage:
    """Draw one image.

    Raises:
        UserError: no response, an error, or no complete PNG.
    """
    response = request(client, path, fields, timeout)
    if response.status != 200:
        error = response.error()
        raise UserError(f"the WebUI answered {error}", code=refine_code("not-drawn", error))
    body = _json(response)
    images = body.get("images") if isinstance(body, dict) else None
    if not images:
        raise UserError("the WebUI's answer holds no picture", code="not-drawn")
    try:
        png = decode_png(decode_base64(images[0]))
    except (ValueError, KeyError, TypeError) as error:
        message = f"the WebUI's answer holds no picture: {error}"
        raise UserError(message, code="picture-broken") from None
    return DrawnImage(png, *_model_and_version(body))


def judge_image(image: Png, width: int, height: int) -> Judgement:
    """Judge whether an image has the requested size and shows something."""
    if (image.width, image.height) != (width, height):
        return judge("", f"the picture is {image.size}, not {width}x{height}", "picture-size")
    colours = image.colours
    if colours == 1:
        return judge("", "the picture has one colour throughout", "picture-flat")
    at_least = "at least " if colours == MAX_COLOURS else ""
    return judge(f"{image.size}, {at_least}{colours} colours")


def gpu_memory_used(client: WebuiClient) -> int:
    """Return the bytes of GPU memory in use, by all processes; 0 for a worker without a GPU."""
    body = _json(request(client, "/sdapi/v1/memory"))
    cuda = body.get("cuda", {}) if isinstance(body, dict) else {}
    return int(cuda.get("system", {}).get("used", 0))


def _ignore_image(_name: str, _image: Png) -> None:
    """Keep no image."""


@dataclass
class ApiSubject:
    """A worker's API, and what is expected of it.

    Args:
        client: of the worker.
        image_size: edge of the test images, pixels.
        steps: of the sampler.
        release: tag of the WebUI, `v1.9.3`.
        checkpoint: file name of the checkpoint; empty where it is not known.
        tolerance: mean difference, of 255, allowed between two images of one seed.
        keep: called with name and data of each image that a report shows.
        gpu_memory_before: bytes in use before the first job.
        first_image: of txt2img, drawn once for several checks.

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

    def __post_init__(self) -> None:
        self.gpu_memory_before = gpu_memory_used(self.client)
        self.first_image = Prerequisite(self.txt2img)

    def txt2img(self) -> DrawnImage:
        """Draw a small image, the same one every time."""
        return self._draw("txt2img", prompt="a lighthouse at dusk", sampler_name="Euler")

    def img2img(self, image: Png) -> DrawnImage:
        """Draw on an image."""
        encoded = base64.b64encode(image.data).decode()
        return self._draw("img2img", prompt="night", init_images=[encoded], denoising_strength=0.9)

    def chosen_checkpoint(self) -> str:
        """Return the checkpoint of the WebUI's options, without its hash."""
        options = request(self.client, "/sdapi/v1/options").json()
        return str(options["sd_model_checkpoint"]).partition(" [")[0]

    def _draw(self, endpoint: str, **fields: Any) -> DrawnImage:  # noqa: ANN401 - JSON
        size = {"width": self.image_size, "height": self.image_size}
        usual = {"seed": _SEED, "steps": self.steps, **size}
        return draw(self.client, f"/sdapi/v1/{endpoint}", {**usual, **fields})

    def judge_image(self, name: str, image: Png) -> Judgement:
        """Keep an image and judge it."""
        self.keep(name, image)
        return judge_image(image, self.image_size, self.image_size)


@check("checkpoint is listed and chosen", "model-not-loaded")
def checkpoint_is_chosen(subject: ApiSubject) -> Judgement:
    """Compare the WebUI's list of checkpoints, its options and the config."""
    models = _json(request(subject.client, "/sdapi/v1/sd-models"))
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
    first, second = subject.first_image.get().png, subject.txt2img().png
    apart = difference(first, second)
    evidence = f"mean difference {apart:.3f} of 255" if apart else "every pixel is the same"
    if apart <= subject.tolerance:
        return judge(evidence)
    subject.keep("again", second)
    return judge(evidence, f"allowed is {subject.tolerance:.3f}")


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


def _model_and_version(body: Mapping[str, Any]) -> tuple[str, str]:
    """Read checkpoint and WebUI version from the parameters of an answer's first image."""
    try:
        info = json.loads(body["info"])
        found = re.search(r"\bVersion: ([^,\n]+)", info["infotexts"][0])
        return str(info["sd_model_name"] or ""), found[1].strip() if found else ""
    except (KeyError, IndexError, TypeError, ValueError):
        return "", ""


def _json(response: Response) -> Any:  # noqa: ANN401 - any JSON
    """Parse a body; None where it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return None
