"""Turn an error of the WebUI into one line that names the field and the reason.

Its handler (`api_middleware` in `modules/api/api.py`, alike in v1.9.3 and v1.10.1) answers with
`error`, the exception's class, and with `detail` of an HTTPException or `errors`, the text of any
other. Neither names a field, and the text of an assertion without a message is empty. FastAPI
answers 422 with a list of fields in `detail` when a value is of the wrong type.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import match
from scripts.common.webui_client import Response
from scripts.container.serverless.request.input_images import find_images, is_base64_image
from scripts.container.serverless.request.job_request import JobRequest
from scripts.container.status.log_findings import Finding

_FIELDS_BY_TEXT: Final = {
    "Init image not found": ("init_images",),
    "Image not found": ("image",),
    "Model not found": ("model",),
    "Overflow when unpacking long": ("seed", "subseed"),
    "Sampler not found": ("sampler_name", "sampler_index"),
    "Cannot have a selectable script in the always on": ("alwayson_scripts",),
}
"""Texts of the WebUI (`modules/api/api.py`; of torch for too large seeds) that hold no value of
the field that they are about."""

_IMAGE_TEXTS: Final = (
    *("Invalid encoded image", "Invalid image url"),  # modules/api/api.py
    *("cannot identify image file", "Incorrect padding", "Invalid base64-encoded string"),
)
"""Texts of the WebUI, and of Pillow and `base64` in extensions, about an image that is none."""

_MAX_NAME: Final = 200  # characters; a longer value is a text or an image
# Other errors may quote the job: no prompt or name of a setting may have the worker replaced.
_RAISED_BY_TORCH: Final = re.compile(r"\d+ (?:RuntimeError|AcceleratorError): ")
HALF_LOADED: Final = "model-half-loaded"
"""Code of a failure after which only a new process of the WebUI draws what is asked for."""


class WebuiError(UserError):
    """An error that the WebUI has answered with.

    Args:
        message: as for `UserError`.
        status: HTTP status of the answer.
        location: as for `UserError`.
        code: as for `UserError`.
    """

    def __init__(self, message: str, status: int, *, location: str = "", code: str = "") -> None:
        self.status = status
        super().__init__(message, location=location, code=code)


class PoisonedError(WebuiError):
    """Only a new process can draw again; RunPod should replace the worker."""


def explain(
    response: Response, request: JobRequest, findings: Sequence[Finding] = ()
) -> WebuiError:
    """Return the error for a response that is no success.

    Its message names the field if the text shows which one it was; code and hint are those of a
    known failure.

    Args:
        response: of the WebUI.
        request: that it answers.
        findings: what the WebUI's log has shown meanwhile; the first is the cause of a vague text.
    """
    if response.status == 422 and (problems := _list_problems(response)):
        return WebuiError("; ".join(problems), response.status, code="input-invalid")
    text = _describe(response)
    known = match(text)
    code = known.code if known else ""
    if known and known.poisons and _RAISED_BY_TORCH.match(text):
        return PoisonedError(text, response.status, code=code)
    causes = [finding for finding in findings if finding.code != HALF_LOADED]
    if not known and response.status >= 500 and findings:
        location, code = (causes[0].text, causes[0].code) if causes else ("", HALF_LOADED)
        return WebuiError(text, response.status, location=location, code=code)
    field = _find_field(text, request.fields)
    code = code or ("input-invalid" if field else "")
    return WebuiError(f"{field}: {text}" if field else text, response.status, code=code)


def _describe(response: Response) -> str:
    """Return status, class and reason on one line."""
    text = response.error()
    if text.partition(" ")[2].endswith(("Error", "Exception")):
        return f"{text} without a reason: the worker's log holds its traceback"
    return text


def _list_problems(response: Response) -> list[str]:
    """Return one text for each field that FastAPI refused; none if it was not FastAPI."""
    try:
        rows = response.json()["detail"]
        return [f"input.{_join(row['loc'][1:])}: {row['msg']}" for row in rows]
    except (ValueError, KeyError, TypeError):
        return []


def _join(location: list[Any]) -> str:
    parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in location)
    return "".join(parts).removeprefix(".")


def _find_field(text: str, fields: Mapping[str, Any]) -> str:
    """Return the field that a text is about, such as `input.hr_upscaler`; empty if none is."""
    if any(each in text for each in _IMAGE_TEXTS):
        images = list(find_images(fields))
        broken = [path for path, image in images if not is_base64_image(image)]
        if broken:
            return f"input.{broken[0]} is no image in base64"
        return "" if images else "input.image is missing"
    for known, names in _FIELDS_BY_TEXT.items():
        if known in text:
            given = [name for name in names if fields.get(name) is not None]
            return f"input.{given[0]}" if given else f"input.{names[0]} is missing"
    for path, value in _list_names(fields):
        # The WebUI quotes the value, or ends the text with it.
        if f"'{value}'" in text or text.endswith((f" {value}", f" {value} not found")):
            return f"input.{path}"
    return ""


def _list_names(fields: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each value, and of each key of an object, that may be a name."""
    for name, value in fields.items():
        where = f"{path}{name}"
        if name in ("prompt", "negative_prompt"):
            continue
        if path:
            yield where, name
        if isinstance(value, str) and 0 < len(value) <= _MAX_NAME:
            yield where, value
        elif isinstance(value, dict):
            yield from _list_names(value, f"{where}.")
