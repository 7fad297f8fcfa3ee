"""Fetch an image from an address in a job: http(s), public hosts only, within size and time."""

import threading
import time
from typing import Final

from scripts.common.active_time import active_time, wait_for
from scripts.common.diagnostics.error import UserError

MAX_IMAGE: Final = 32_000_000
"""Bytes of an image that is fetched."""

_STALL: Final = 10.0  # seconds without a byte
_ATTEMPTS: Final = 3
_PAUSE: Final = 0.2  # seconds before the next attempt
_CHUNK: Final = 1 << 16
_LATE: Final = "it did not arrive in time"


def fetch_image(url: str, seconds: float) -> bytes:
    """Return the content of an address.

    Every address on the way is public, also that of a redirect (`public_address.py`). A connection
    that breaks, as in a freeze of the container, is tried again.

    Args:
        url: http or https.
        seconds: of active time until the whole content must be there.

    Raises:
        UserError: it cannot be fetched, or is too large (code `address-not-public` or another).
    """
    deadline = active_time() + seconds
    done: list[bytes | Exception] = []
    is_done = threading.Event()

    def fetch() -> None:
        try:
            done.append(_fetch(url, deadline))
        except Exception as error:
            done.append(error)
        is_done.set()

    # A thread, because headers that arrive byte by byte are within every timeout of a socket.
    threading.Thread(target=fetch, daemon=True).start()
    result = done[0] if wait_for(is_done.wait, deadline) else UserError(_LATE)
    if isinstance(result, Exception):
        raise result
    return result


def _fetch(url: str, deadline: float) -> bytes:
    # 0.1 s that jobs without addresses need not wait for
    from scripts.common.fetch.http_errors import RetryableError

    attempt = 1
    while True:
        try:
            return _read(url, deadline)
        except RetryableError as error:
            if attempt == _ATTEMPTS or active_time() > deadline:
                raise UserError(str(error)) from None
        attempt += 1
        time.sleep(_PAUSE)


def _read(url: str, deadline: float) -> bytes:
    """Read an address once.

    Raises:
        RetryableError: another attempt may succeed.
        UserError: none will.
    """
    from scripts.common.fetch.http import open_url
    from scripts.common.fetch.http_errors import RetryableError
    from scripts.common.fetch.spec import RetryPolicy

    stall = min(_STALL, max(deadline - active_time(), 0.1))
    policy = RetryPolicy(stall_timeout=stall, public_only=True)
    content = bytearray()
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
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != len(content):
        raise RetryableError("the connection ended early")
    return bytes(content)
