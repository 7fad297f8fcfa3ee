"""Fetch an image from an address in a job: http(s), public hosts only, within size and time."""

import threading
from typing import Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError

MAX_IMAGE: Final = 32_000_000
"""Bytes of an image that is fetched."""

_STALL: Final = 10.0  # seconds without a byte
_CHUNK: Final = 1 << 16
_LATE: Final = "it did not arrive in time"


def fetch_image(url: str, seconds: float) -> bytes:
    """Return the content of an address.

    Every address on the way is public, also that of a redirect (`public_address.py`).

    Args:
        url: http or https.
        seconds: until the whole content must be there.

    Raises:
        UserError: it cannot be fetched, or is too large (code `address-not-public` or another).
    """
    done: list[bytes | Exception] = []

    def fetch() -> None:
        try:
            done.append(_read(url, active_time() + seconds))
        except Exception as error:
            done.append(error)

    # A thread, because headers that arrive byte by byte are within every timeout of a socket.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    result = done[0] if done else UserError(_LATE)
    if isinstance(result, Exception):
        raise result
    return result


def _read(url: str, deadline: float) -> bytes:
    # 0.1 s that jobs without addresses need not wait for
    from scripts.common.fetch.http import open_url
    from scripts.common.fetch.http_errors import RetryableError
    from scripts.common.fetch.spec import RetryPolicy

    stall = min(_STALL, max(deadline - active_time(), 0.1))
    policy = RetryPolicy(stall_timeout=stall, public_only=True)
    content = bytearray()
    try:
        response = open_url(url, headers={"Accept-Encoding": "identity"}, token="", policy=policy)
        try:
            while part := response.read_some(_CHUNK):
                content += part
                if len(content) > MAX_IMAGE:
                    raise UserError(f"it is larger than {MAX_IMAGE // 10**6} MB")
                if active_time() > deadline:
                    raise UserError(_LATE)
        finally:
            response.close()
    except RetryableError as error:
        raise UserError(str(error)) from None
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != len(content):
        raise UserError("the connection ended early")
    return bytes(content)
