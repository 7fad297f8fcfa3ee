"""Opens URLs for downloads: redirects, proxies, certificates, credentials, and what may be retried.

Proxies come from the environment as `urllib` reads it. A token goes to the host it was given for,
and to no other that a redirect leads to.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from functools import lru_cache
from typing import IO, Final
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.local_file import Answer, LocalFile
from scripts.common.fetch.retry_policy import RetryPolicy, shown

AGENT: Final = "a1111-worker-image/1"
_MAY_PASS: Final = (408, 425, 429)  # besides every 5xx
_RANGE_NOT_SATISFIABLE: Final = 416
_OUT_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, ..._HAS_EXPIRED


class Retry(Exception):  # noqa: N818 - not an error yet
    """Something that another try may fix.

    Args:
        reason: what happened.
        wait: seconds the server asked to wait; None where it did not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(reason)


def open_url(url: str, *, headers: Mapping[str, str], token: str, line: RetryPolicy) -> Answer:
    """Ask for a URL.

    Args:
        url: http, https or file.
        headers: sent to every host on the way.
        token: bearer token for the URL's own host; empty for none.
        line: patience and certificates.

    Returns:
        The answer, not yet read: status 2xx, or 416.

    Raises:
        Retry: another try may help.
        UserError: it will not.
    """
    if urlsplit(url).scheme == "file":
        return LocalFile(url)
    request = urllib.request.Request(url, headers={"User-Agent": AGENT, **headers})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        answer: http.client.HTTPResponse = _opener(line.ca_bundle).open(request, timeout=line.stall)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            return error  # type: ignore[return-value]  # has status, headers and read() alike
        with contextlib.closing(error):
            raise _refusal(error, url, has_token=bool(token)) from None
    except urllib.error.URLError as error:
        raise _trouble(error.reason, url) from None
    except (OSError, http.client.HTTPException) as error:
        raise _trouble(error, url) from None


def _refusal(error: urllib.error.HTTPError, url: str, *, has_token: bool) -> Exception:
    """What an error status means for the next step."""
    code = error.code
    if code in _MAY_PASS or code >= 500:
        return Retry(f"the server answered {code} {error.reason}", _retry_after(error.headers))
    if code in (401, 403):
        gated = error.headers.get("X-Error-Code") == "GatedRepo"
        hint = "set a token that may read it: HF_TOKEN for the Hub, TOKEN_<HOST> for other hosts"
        if gated:
            hint = "accept the model's terms on its page, then set HF_TOKEN"
        elif has_token:
            hint = "the token was sent and refused: check that it is valid and may read this file"
        return UserError(
            f"the server refused: {code} {error.reason}",
            location=shown(url),
            hint=hint,
            code="download-refused",
        )
    if 300 <= code < 400:
        return UserError(
            "the server redirects without end or to an unsafe place",
            location=shown(url),
            hint="check the source's address",
            code="download-refused",
        )
    return UserError(
        f"the server answered {code} {error.reason}",
        location=shown(url),
        hint="check the source's address, file name and revision",
        code="download-refused",
    )


def _trouble(reason: object, url: str) -> Exception:
    """What a broken connection means for the next step."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "behind an inspecting proxy, set mirrors.ca_bundle or SSL_CERT_FILE"
        if reason.verify_code in _OUT_OF_TIME:
            hint = "check this machine's clock; if it is right, the server's certificate is not"
        return UserError(
            f"the certificate is not trusted: {reason.verify_message}",
            location=shown(url),
            hint=hint,
            code="certificate",
        )
    text = str(reason) or type(reason).__name__
    return Retry(text if "timed out" not in text else "the server did not answer in time")


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3).

    A date is compared with the server's own clock, so that a wrong one here does not matter.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    with contextlib.suppress(TypeError, ValueError):
        then = email.utils.parsedate_to_datetime(value)
        now = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    return None


@lru_cache(maxsize=4)
def trusting(ca_bundle: str) -> ssl.SSLContext:
    """Trust in the system's certificates, SSL_CERT_FILE's, a bundle's, and those of other tools."""
    context = ssl.create_default_context()
    named = {ca_bundle, *map(os.environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))}
    for extra in named - {None, "", os.environ.get("SSL_CERT_FILE")}:
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


class _Https(urllib.request.AbstractHTTPHandler):
    """Loads the certificates when they are needed first: it takes a tenth of a second."""

    def __init__(self, ca_bundle: str) -> None:
        super().__init__()
        self._ca_bundle = ca_bundle

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Connect; `urllib` finds this by its name."""
        context = trusting(self._ca_bundle)
        return self.do_open(http.client.HTTPSConnection, request, context=context)

    https_request = urllib.request.AbstractHTTPHandler.do_request_


def _opener(ca_bundle: str) -> urllib.request.OpenerDirector:
    """Only what downloads need: no ftp:, file: or data: that a redirect could lead to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        _Https(ca_bundle),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, keeping the token on its own host and never leaving https for http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The next request; None ends in an HTTPError with the redirect's own status."""
        if urlsplit(newurl).scheme not in ("https", req.type):
            return None
        if code == 308:  # Python 3.10 does not know it
            code = 307
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # typeshed says HTTPMessage, any Message does
        token = req.unredirected_hdrs.get("Authorization")
        if new is not None and token and _origin(newurl) == _origin(req.full_url):
            new.add_unredirected_header("Authorization", token)
        return new

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302
