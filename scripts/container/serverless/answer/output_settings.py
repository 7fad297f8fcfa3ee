"""Parse what a job asks of its answer: image format, delivery, maps, previews, its own bucket.

    {"input": {"prompt": "a lighthouse", "controlnet_maps": true,
               "output": {"format": "jpg", "quality": 85, "delivery": "s3"}},
     "s3Config": {"accessId": "…", "accessSecret": "…", "bucketName": "…", "endpointUrl": "…"}}

`s3Config` is RunPod's own name (https://docs.runpod.io/serverless/endpoints/send-requests); it
lies beside `input`, and may lie in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError

Format = Literal["png", "jpg", "webp"]
Delivery = Literal["base64", "s3"]

FORMAT_OPTION: Final = "samples_format"
QUALITY_OPTION: Final = "jpeg_quality"
"""Options by which the WebUI encodes images in answers, quality also of WebP; alike in v1.9.3 and
v1.10.1 (`encode_pil_to_base64` in `modules/api/api.py`), which do not read `webp_lossless`."""

_FORMATS: Final[dict[str, Format]] = {"png": "png", "jpg": "jpg", "jpeg": "jpg", "webp": "webp"}
_DELIVERIES: Final[dict[str, Delivery]] = {"base64": "base64", "s3": "s3"}
_ACCESS: Final = ("accessId", "accessSecret", "bucketName", "endpointUrl")


@dataclass(frozen=True)
class BucketAccess:
    """An S3 bucket and its credentials, which are in no representation of it.

    Args:
        endpoint_url: address of the S3 service.
        access_id: name of the key.
        access_secret: the key.
        name: of the bucket; empty for the name that RunPod's SDK gives, month and year.
        is_of_job: a job named it, not the operator of the worker.
    """

    endpoint_url: str
    access_id: str = field(repr=False)
    access_secret: str = field(repr=False)
    name: str = ""
    is_of_job: bool = False


@dataclass(frozen=True)
class OutputSettings:
    """Format, delivery and bucket that a job asks for.

    Args:
        format: of the images; None as the WebUI is set up.
        quality: of JPEG and WebP, 1 to 100; None as the WebUI is set up.
        delivery: how images are returned; None for `s3` where there is a bucket, else `base64`.
        controlnet_maps: return the maps that ControlNet made of its input images.
        previews: send a small image with each report of progress.
        bucket: the job's own; None for that of the worker, if it has one.
    """

    format: Format | None = None
    quality: int | None = None
    delivery: Delivery | None = None
    controlnet_maps: bool = False
    previews: bool = False
    bucket: BucketAccess | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The WebUI's options for this job."""
        options = {FORMAT_OPTION: self.format, QUALITY_OPTION: self.quality}
        return {name: value for name, value in options.items() if value is not None}


def parse_output(own: Mapping[str, Any], access: Any) -> OutputSettings:  # noqa: ANN401 - JSON
    """Parse a job's output settings.

    Args:
        own: keys of the input that are for the worker.
        access: the job's `s3Config`, beside its input; wins over one inside.

    Raises:
        UserError: one is invalid; the field is named, never a secret (code `input-invalid`).
    """
    output = own.get("output")
    for name in ("controlnet_maps", "previews"):
        if not isinstance(own.get(name), bool | None):
            raise _invalid(name, "true or false")
    output = {} if output is None else output
    if not isinstance(output, dict) or output.keys() - {"format", "quality", "delivery"}:
        raise _invalid("output", "an object with format, quality and delivery, or some of them")
    return OutputSettings(
        format=_choose("output.format", output.get("format"), _FORMATS),
        quality=_parse_quality(output.get("quality")),
        delivery=_choose("output.delivery", output.get("delivery"), _DELIVERIES),
        controlnet_maps=bool(own.get("controlnet_maps")),
        previews=bool(own.get("previews")),
        bucket=_parse_access(own.get("s3Config") if access is None else access),
    )


def take_format(fields: dict[str, Any], output: OutputSettings) -> OutputSettings:
    """Return the settings with those options of the format that a job sets in `override_settings`.

    There they would do nothing, so they are removed; what `output` says wins.

    Args:
        fields: of the request; changed.
        output: the settings so far.

    Raises:
        UserError: as for `parse_output`.
    """
    options = fields.get("override_settings")
    if not isinstance(options, dict) or not {FORMAT_OPTION, QUALITY_OPTION} & options.keys():
        return output
    fields["override_settings"] = rest = dict(options)
    image_format = _choose("output.format", rest.pop(FORMAT_OPTION, None), _FORMATS)
    quality = _parse_quality(rest.pop(QUALITY_OPTION, None))
    return replace(output, format=output.format or image_format, quality=output.quality or quality)


def _parse_quality(value: Any) -> int | None:  # noqa: ANN401 - any JSON
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (type(value) is not int or not 1 <= value <= 100):
        raise _invalid("output.quality", "a whole number from 1 to 100")
    return value


def _choose(name: str, value: Any, choices: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    if value is None:
        return None
    if not isinstance(value, str) or value.lower() not in choices:
        raise _invalid(name, f"one of: {', '.join(dict.fromkeys(choices.values()))}")
    return choices[value.lower()]


def _parse_access(value: Any) -> BucketAccess | None:  # noqa: ANN401 - any JSON
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise _invalid("s3Config", f"an object with {', '.join(_ACCESS)}")
    for name in _ACCESS:
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise _invalid(f"s3Config.{name}", "a text that is not empty")
    access_id, access_secret, bucket, url = (value[name].strip() for name in _ACCESS)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid("s3Config.endpointUrl", "an http or https address")
    return BucketAccess(url, access_id, access_secret, bucket, is_of_job=True)


def _invalid(field_name: str, expected: str) -> UserError:
    return UserError(f"{field_name} must be {expected}", code="input-invalid")
