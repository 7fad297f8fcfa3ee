"""A worker's API, as the smoke tests call it."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.signatures import refine_code
from scripts.common.webui_client import Response, WebuiClient


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        png: its bytes.
        size: width and height in pixels.
        colours: how many different colours it has, counted up to 256.
        model: name of the model that drew it, as the WebUI tells it; empty where it does not.
        version: of the WebUI, likewise.
    """

    png: bytes
    size: tuple[int, int]
    colours: int
    model: str = ""
    version: str = ""


class Api:
    """The API at one address.

    Args:
        url: `http://host:3000`.
        timeout: seconds one answer may take.
        auth: `user:password` where the worker has API_AUTH.
    """

    def __init__(self, url: str, timeout: float = 600.0, auth: str = "") -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self._client = WebuiClient(self.url, auth, use_proxies=True)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Response:
        """GET, or POST where there is a body.

        Raises:
            UserError: nothing answers, or it wants another login.
        """
        method = "GET" if body is None else "POST"
        try:
            response = self._client.request(method, path, body, timeout=self.timeout)
        except (ConnectionResetError, http.client.HTTPException) as error:
            raise UserError(
                f"the connection broke: {error!r}", location=f"{self.url}{path}", code="webui-died"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"the API does not answer: {error}",
                location=f"{self.url}{path}",
                code="port-closed",
            ) from None
        if response.status == 401:
            raise UserError("the API wants a login", location=self.url, code="api-locked")
        return response

    def draw(self, path: str = "/sdapi/v1/txt2img", **fields: Any) -> Picture:  # noqa: ANN401
        """Draw one picture.

        Raises:
            UserError: no answer, an error, or no picture; named by the WebUI's words.
        """
        answer = self.call(path, fields)
        body = _decoded(answer.body)
        if answer.status != 200:
            detail = body.get("errors") if isinstance(body, dict) else body
            code = refine_code("not-drawn", str(detail))
            raise UserError(f"{path} answered {answer.status}: {detail}", code=code)
        images = body.get("images") if isinstance(body, dict) else None
        if not images:
            raise UserError(f"{path} answered without a picture", code="not-drawn")
        model, version = _drawn_by(body)
        return replace(decoded(str(images[0])), model=model, version=version)

    def gpu_used(self) -> int:
        """Bytes of GPU memory in use, by whomever; 0 where the worker draws on the processor."""
        told = _decoded(self.call("/sdapi/v1/memory").body)
        cuda = told.get("cuda", {}) if isinstance(told, dict) else {}
        return int(cuda.get("system", {}).get("used", 0))

    def wait(self, seconds: float) -> float:
        """Wait until something answers; the seconds it took.

        Raises:
            UserError: nothing did in time.
        """
        began = time.monotonic()
        while True:
            try:
                self.call("/sdapi/v1/sd-models")
            except UserError as failure:
                if failure.code == "api-locked":
                    raise
                if time.monotonic() - began > seconds:
                    raise UserError(
                        failure.message, location=failure.location, code="port-closed"
                    ) from None
                time.sleep(0.25)
            else:
                return time.monotonic() - began


def decoded(text: str) -> Picture:
    """Decode a base64 picture, every pixel of it.

    Raises:
        UserError: it is not a whole PNG.
    """
    from PIL import Image

    try:
        png = base64.b64decode(text.partition(",")[2] or text, validate=True)
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            colours = image.convert("RGB").getcolors(256)
            kind, size = image.format, image.size
    except (binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"what was drawn is not a whole PNG: {error}", code="picture-broken"
        ) from None
    if kind != "PNG":
        raise UserError(f"what was drawn is {kind}, not PNG", code="picture-broken")
    return Picture(png, size, 256 if colours is None else len(colours))


def difference(one: Picture, other: Picture) -> float:
    """How far two pictures of one size are apart: 0 for the same pixels, at most 255."""
    from PIL import Image, ImageChops, ImageStat

    first, second = (Image.open(io.BytesIO(each.png)).convert("RGB") for each in (one, other))
    bands = ImageStat.Stat(ImageChops.difference(first, second)).mean
    return sum(bands) / len(bands)


def _drawn_by(body: Mapping[str, Any]) -> tuple[str, str]:
    """Model and version of the WebUI, from what it says of its first picture."""
    try:
        info = json.loads(body["info"])
        found = re.search(r"\bVersion: ([^,\n]+)", info["infotexts"][0])
        return str(info["sd_model_name"] or ""), found[1].strip() if found else ""
    except (KeyError, IndexError, TypeError, ValueError):
        return "", ""


def _decoded(body: bytes) -> Any:  # noqa: ANN401 - whatever the server says
    try:
        return json.loads(body)
    except ValueError:
        return None
