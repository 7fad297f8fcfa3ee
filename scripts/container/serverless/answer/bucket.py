"""Upload images to an S3 bucket with the client of RunPod's SDK."""

import time
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.answer.output_settings import BucketAccess

Upload = Callable[[bytes, str], str]
"""Stores an image with its file suffix and returns its address."""

_VALID: Final = 7 * 24 * 3600  # seconds; the longest that S3 signs an address for
_TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def open_bucket(access: BucketAccess, job_id: str) -> Upload:
    """Return a function that uploads one image of a job and returns its address for 7 days.

    Keys and names are those of the SDK's own `rp_upload.upload_image`. That itself is not used: it
    makes a client for each image, takes no credentials of a job, and where it has none it writes
    the image to a folder of the container and returns the path.

    Raises:
        UserError: the bucket's address is not public (code `address-not-public`), or its
            credentials are of no use (code `upload-failed`).
    """
    from runpod.serverless.utils import rp_upload  # type: ignore[import-not-found]

    if access.is_of_job:
        _require_public(access.endpoint_url)
    try:
        client, _ = rp_upload.get_boto_client(
            {
                "endpointUrl": access.endpoint_url,
                "accessId": access.access_id,
                "accessSecret": access.access_secret,
            }
        )
    except Exception as error:  # whatever botocore makes of an address
        raise upload_error(error) from None
    if client is None:
        raise UserError(location="no S3 client", code="upload-failed")
    bucket = access.name or time.strftime("%m-%y")

    def upload(image: bytes, suffix: str) -> str:
        target = {"Bucket": bucket, "Key": f"{job_id or 'job'}/{uuid.uuid4().hex[:8]}{suffix}"}
        try:
            client.put_object(**target, Body=image, ContentType=_TYPES[suffix])
            signed = client.generate_presigned_url("get_object", Params=target, ExpiresIn=_VALID)
        except Exception as error:  # any error of the client costs the job, not the worker
            raise upload_error(error) from None
        return str(signed)

    return upload


def upload_error(error: Exception) -> UserError:
    """Return the error for a failed upload, by type and S3 code: its text may hold credentials."""
    answer: Any = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else ""
    return UserError(location=f"{type(error).__name__} {code}".strip(), code="upload-failed")


def _require_public(url: str) -> None:
    """Refuse a job's bucket inside the network: nobody but the operator may reach that."""
    from scripts.common.fetch.public_address import look_up

    parts = urlsplit(url)
    try:
        look_up(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    except OSError as error:
        raise upload_error(error) from None
