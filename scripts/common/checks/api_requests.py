"""Requests of the checks to a worker's API: with errors that name a known failure, and images."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scripts.common.checks.check import judge
from scripts.common.checks.images import MAX_COLOURS, Png, decode_base64, decode_png, file_suffix
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import refine_code
from scripts.common.gpu.judge import Judgement
from scripts.common.webui_client import Response, WebuiClient

_TIMEOUT: Final = 600.0  # seconds of one request; a CPU draws slowly
_POLL: Final = 0.25


@dataclass(frozen=True)
class DrawnImage:
    """An image of the WebUI.

    Args:
        png: decoded.
        model: name of the checkpoint that drew it; empty where the WebUI does not report it.
        version: of the WebUI, likewise.
        vae: file name of the VAE; empty for the checkpoint's own.
    """

    png: Png
    model: str = ""
    version: str = ""
    vae: str = ""


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
    except ConnectionResetError as error:
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
    body = post(client, path, fields, timeout=timeout)
    return DrawnImage(_decode_image(body.get("images")), *_read_info(body))


def post(
    client: WebuiClient, path: str, fields: Mapping[str, Any], *, timeout: float = _TIMEOUT
) -> Mapping[str, Any]:
    """POST a job and return its answer.

    Raises:
        UserError: no response, or an error.
    """
    response = request(client, path, fields, timeout)
    if response.status != 200:
        error = response.error()
        raise UserError(f"the WebUI answered {error}", code=refine_code("not-drawn", error))
    body = _json(response)
    return body if isinstance(body, dict) else {}


def read_images(answer: Mapping[str, Any]) -> list[Png]:
    """Return the images of an answer, at least one.

    Raises:
        UserError: it holds none, or something else than complete PNGs.
    """
    images = answer.get("images")
    return [_decode_image([image]) for image in images] if images else [_decode_image(images)]


def process(client: WebuiClient, image: Png, **fields: object) -> Png:
    """Send an image through the WebUI's extras: upscalers and face restorers.

    Raises:
        UserError: as for `draw`.
    """
    body = post(client, "/sdapi/v1/extra-single-image", {**fields, "image": image.base64})
    return _decode_image([body.get("image")])


def get_json(client: WebuiClient, path: str) -> Any:  # noqa: ANN401 - any JSON
    """GET a path; None where the answer is not JSON, or an error.

    Raises:
        UserError: no response, or a login is required.
    """
    response = request(client, path)
    return _json(response) if response.status == 200 else None


def _decode_image(images: object) -> Png:
    if not images or not isinstance(images, list):
        raise UserError("the WebUI's answer holds no picture", code="not-drawn")
    try:
        data = decode_base64(images[0])
        if (suffix := file_suffix(data, data)) not in ("", ".png"):
            raise ValueError(f"{suffix} is not judged; set its option samples_format to png")
        return decode_png(data)
    except (ValueError, KeyError, TypeError) as error:
        message = f"the WebUI's answer holds no picture: {error}"
        raise UserError(message, code="picture-broken") from None


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
    body = get_json(client, "/sdapi/v1/memory")
    cuda = body.get("cuda", {}) if isinstance(body, dict) else {}
    return int(cuda.get("system", {}).get("used", 0))


def _read_info(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Read checkpoint, WebUI version and VAE from the parameters of an answer's first image."""
    try:
        info = json.loads(body["info"])
        found = re.search(r"\bVersion: ([^,\n]+)", info["infotexts"][0])
        version = found[1].strip() if found else ""
        return str(info["sd_model_name"] or ""), version, str(info.get("sd_vae_name") or "")
    except (KeyError, IndexError, TypeError, ValueError):
        return "", "", ""


def _json(response: Response) -> Any:  # noqa: ANN401 - any JSON
    """Parse a body; None where it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return None
