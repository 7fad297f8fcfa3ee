"""Fetch an image from an address in a job: http(s), public hosts only, within size and time."""

import time
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.input_images import MAX_IMAGE

_STALL: Final = 10.0  # seconds without a byte
_CHUNK: Final = 1 << 16


def fetch_image(url: str, seconds: float) -> bytes:
    """Return the content of an address.

    Every address on the way, also of a redirect, is public (`public_address.py`).

    Args:
        url: http or https.
        seconds: until the whole content must be there.

    Raises:
        UserError: it cannot be fetched, or is too large (code `address-not-public` or another).
    """
    # 0.1 s that jobs without addresses need not wait for
    from scripts.common.fetch.http import RetryableError, open_url
    from scripts.common.fetch.spec import RetryPolicy

    deadline = time.monotonic() + seconds
    policy = RetryPolicy(stall_timeout=min(_STALL, max(seconds, 0.1)), public_only=True)
    try:
        response = open_url(url, headers={"Accept-Encoding": "identity"}, token="", policy=policy)
        try:
            content = bytearray()
            while part := response.read_some(_CHUNK):
                content += part
                if len(content) > MAX_IMAGE:
                    raise UserError(f"it is larger than {MAX_IMAGE // 10**6} MB")
                if time.monotonic() > deadline:
                    raise UserError("it did not arrive in time")
        finally:
            response.close()
    except RetryableError as error:
        raise UserError(str(error)) from None
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != len(content):
        raise UserError("the connection ended early")
    return bytes(content)
