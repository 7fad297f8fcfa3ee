"""Open http, https and file URLs for download: redirects, proxies, certificates, credentials.

Proxies come from the environment, as `requests` reads it. A token is sent to the URL's own host
and to no other that a redirect leads to.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.http_errors import (
    BAD_REDIRECT,
    RetryableError,
    explain_connection,
    explain_status,
    is_internal,
    refused,
    root_cause,
)
from scripts.common.fetch.spec import RetryPolicy

AGENT: Final = "a1111-worker-image/1"
_PEEK_SECONDS: Final = 5.0
_RANGE_NOT_SATISFIABLE: Final = 416


@dataclass
class Response:
    """A response before its body is read.

    Args:
        status: HTTP status.
        headers: its headers.
        read_body: read what has arrived, at most so many bytes; empty only at the end.
        close: end the connection.
    """

    status: int
    headers: Mapping[str, str]
    read_body: Callable[[int], bytes]
    close: Callable[[], None]
    _peeked: bytes = b""

    @property
    def validator(self) -> str:
        """The value for If-Range: a strong ETag, else a date (RFC 9110, section 13.1.5)."""
        etag = self.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            return etag
        return "" if etag else self.headers.get("Last-Modified", "")

    @property
    def is_text(self) -> bool:
        """Return whether its content type is a text, such as a page or an error."""
        form = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return form.startswith("text/") or form.endswith(("json", "xml"))

    def peek(self, count: int) -> bytes:
        """Return the beginning of the body, which is read once more afterwards."""
        until = time.monotonic() + _PEEK_SECONDS
        while len(self._peeked) < count and time.monotonic() < until:
            if not (some := self.read_body(count - len(self._peeked))):
                break
            self._peeked += some
        return self._peeked

    def read_some(self, limit: int) -> bytes:
        """Return what has arrived, at most so many bytes; empty only at the end."""
        some, self._peeked = self._peeked[:limit], self._peeked[limit:]
        return some or self.read_body(limit)

    @property
    def file_name(self) -> str:
        """The name in Content-Disposition; empty if there is none."""
        header = Message()
        header["Content-Disposition"] = self.headers.get("Content-Disposition", "")
        return header.get_filename("")


def open_url(
    url: str,
    *,
    headers: Mapping[str, str],
    token: str,
    policy: RetryPolicy,
    accepted: Collection[int] = (_RANGE_NOT_SATISFIABLE,),
) -> Response:
    """Request a URL.

    Args:
        url: http, https or file.
        headers: sent to every host on the way.
        token: bearer token for the URL's own host; empty for none.
        policy: timeout and certificates.
        accepted: statuses that are no error, besides 2xx.

    Returns:
        A response with one of these statuses.

    Raises:
        RetryableError: another attempt may succeed.
        UserError: none will.
    """
    if urlsplit(url).scheme == "file" and not policy.public_only:
        return _open_file(url)
    session = _Session(policy)
    sent = {**headers, "Authorization": f"Bearer {token}"} if token else dict(headers)
    try:
        response = session.get(url, headers=sent, timeout=policy.stall_timeout)
    except requests.TooManyRedirects:
        raise refused(url, BAD_REDIRECT) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        hint = "check the source's address, and https_proxy and all_proxy; SOCKS needs PySocks"
        raise refused(url, "the address, or that of a proxy, cannot be used", hint) from None
    except (requests.RequestException, HTTPError, OSError) as error:
        raise explain_connection(error, url) from None
    if 200 <= response.status_code < 300 or response.status_code in accepted:
        read_some = partial(_read_some, response)
        return Response(response.status_code, response.headers, read_some, response.close)
    try:
        raise explain_status(response, url, has_token=bool(token))
    finally:
        response.close()


def _open_file(url: str) -> Response:
    path = Path(unquote(urlsplit(url).path))
    try:
        stream = path.open("rb")
    except OSError as error:
        raise refused(url, f"the file cannot be read: {error.strerror}") from None
    headers = {"Content-Length": str(os.fstat(stream.fileno()).st_size)}
    return Response(200, headers, stream.read1, stream.close)


def _read_some(response: requests.Response, limit: int) -> bytes:
    try:
        some: bytes = response.raw.read1(limit, decode_content=False)
    except IncompleteRead:
        return b""  # the caller knows how long the body must be
    except (ReadTimeoutError, TimeoutError):
        raise RetryableError("the connection stalled") from None
    except (HTTPError, OSError) as error:
        raise RetryableError(f"the connection broke: {root_cause(error)}") from None
    return some


class _Session(requests.Session):
    """A session that follows redirects, but not from https to http, nor with the token elsewhere.

    Args:
        policy: certificates, and whether only public addresses may be reached.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        super().__init__()
        self.headers.update({"User-Agent": AGENT, "Connection": "close"})
        self.max_redirects = 10
        self.stream = True
        self.auth = lambda request: request  # with no `auth`, requests would read ~/.netrc
        adapters = {"http://": HTTPAdapter(), "https://": TrustingAdapter(policy.ca_bundle)}
        for prefix, adapter in adapters.items():
            self.mount(prefix, adapter)
        if policy.public_only:
            from scripts.common.fetch.public_address import connect_to_public

            self.trust_env = False  # a proxy would connect elsewhere on its own
            for adapter in adapters.values():
                connect_to_public(adapter)

    def merge_environment_settings(self, url: Any, *settings: Any) -> Any:  # noqa: ANN401 - as in requests
        """Add the environment's proxies, unless no_proxy excepts the address."""
        merged = super().merge_environment_settings(url, *settings)
        return {**merged, "proxies": {}} if is_internal(url) else merged

    def rebuild_proxies(self, prepared_request: PreparedRequest, proxies: Any) -> Any:  # noqa: ANN401 - as in requests
        """Choose the proxies again where a redirect leads."""
        chosen = super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]  # as above
        return {} if is_internal(str(prepared_request.url)) else chosen

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response redirects to; None if it must not be followed."""
        target = super().get_redirect_target(resp)
        scheme = urlsplit(urljoin(resp.url, target or "")).scheme
        return target if scheme in ("https", urlsplit(resp.url).scheme) else None

    def rebuild_auth(self, prepared_request: PreparedRequest, response: requests.Response) -> None:
        """Drop the token on the way to another host; take no other from ~/.netrc."""
        self.close()  # a kept connection may be one that the server is just closing
        old, new = response.request.url, prepared_request.url
        if self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]  # the stubs lack it
            prepared_request.headers.pop("Authorization", None)


def ssl_context(ca_bundle: str) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates and those of several bundles.

    The bundles are `ca_bundle`, SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.

    Raises:
        UserError: one of them cannot be used.
    """
    system = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    named = {ca_bundle, *map(os.environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))}
    return _load_context(system, frozenset(filter(None, named - {system[0]})))


@lru_cache(maxsize=4)
def _load_context(_system: tuple[str | None, ...], bundles: frozenset[str]) -> ssl.SSLContext:
    """Load certificates once for each set of variables; ssl reads those of the system itself."""
    context = ssl.create_default_context()
    for extra in bundles:
        try:
            context.load_verify_locations(extra)
        except OSError as error:
            raise UserError(
                f"the CA bundle cannot be used: {error}",
                location=str(extra),
                hint="check mirrors.ca_bundle and the environment",
                code="ca-bundle-unusable",
            ) from None
    return context


class TrustingAdapter(HTTPAdapter):
    """Trust the certificates of `ssl_context`, where `requests` trusts certifi's or one bundle."""

    def __init__(self, ca_bundle: str) -> None:
        super().__init__()
        self._ca_bundle = ca_bundle

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 - as in requests
        """Trust the same certificates for a proxy that is reached by https."""
        if proxy.lower().startswith("https:"):
            options["proxy_ssl_context"] = ssl_context(self._ca_bundle)
        return super().proxy_manager_for(proxy, **options)

    def cert_verify(self, conn: Any, *_: object, **__: object) -> None:  # noqa: ANN401 - as in requests
        """Give the context to a pool of connections, instead of a bundle.

        The certificates are loaded for the first https URL: that takes a tenth of a second.
        """
        conn.cert_reqs, conn.ca_certs, conn.ca_cert_dir = "CERT_REQUIRED", None, None
        conn.conn_kw["ssl_context"] = ssl_context(self._ca_bundle)
