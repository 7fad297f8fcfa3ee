"""Explain why a request failed: what the server says, a proxy, a certificate, the network."""

import email.utils
import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.impostors import ANSWER, quote_answer
from scripts.common.fetch.spec import redact_url

BAD_REDIRECT: Final = "the server redirects without end or to an unsafe place"
_TEMPORARY: Final = (408, 425, 429)  # besides every 5xx
_OUT_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, ..._HAS_EXPIRED
_PROXY_HINT: Final = "check the proxy in the environment, and no_proxy for hosts that need none"


class RetryableError(Exception):
    """A failure that another attempt may not have.

    Args:
        reason: what failed.
        wait: seconds the server asked to wait; None if it did not.
        hint: the next step if no attempt succeeds; empty for the usual one.
    """

    def __init__(self, reason: str, wait: float | None = None, hint: str = "") -> None:
        self.wait, self.hint = wait, hint
        super().__init__(reason)


def refused(url: str, message: str, hint: str = "check the source's address") -> UserError:
    """Return the error for a request that no other attempt would have answered."""
    return UserError(message, location=redact_url(url), hint=hint, code="download-refused")


def explain_status(response: requests.Response, url: str, *, has_token: bool) -> Exception:
    """Return the error for a status that is not a success, with what the answer says of it."""
    code, headers = response.status_code, response.headers
    said = f": {text}" if (text := _read_message(response)) else ""
    if code in _TEMPORARY or code >= 500:
        hint = "the host limits requests: try again later, or set its token" if code == 429 else ""
        reason = f"the server answered {code} {response.reason}{said}"
        return RetryableError(reason, wait_time(headers), hint)
    if 300 <= code < 400:
        return refused(url, BAD_REDIRECT)
    message = f"the server answered {code} {response.reason}{said}"
    hint = "check the source's address, file name and revision"
    if code == 407:
        return _explain_proxy(f"407 {response.reason}", url)
    if code in (401, 403):
        message = f"the server refused: {code} {response.reason}{said}"
        hint = "set a token that may read it: HF_TOKEN for the Hub, TOKEN_<HOST> for other hosts"
        if headers.get("X-Error-Code") == "GatedRepo":
            hint = "accept the model's terms on its page, then set HF_TOKEN"
        elif has_token:
            hint = "the token was sent and refused: check that it is valid and may read this file"
    return refused(url, message, hint)


def explain_connection(error: Exception, url: str) -> Exception:
    """Return the error for a connection that failed."""
    cause = root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        clock = "check this machine's clock; if it is right, the server's certificate is not"
        return UserError(
            f"the certificate is not trusted: {cause.verify_message}",
            location=redact_url(url),
            hint=clock if cause.verify_code in _OUT_OF_TIME else "",
            code="certificate",
        )
    if isinstance(error, requests.exceptions.ProxyError) or proxy_of(url).startswith("socks"):
        return _explain_proxy(str(cause).rpartition("connection: ")[2], url)
    if isinstance(error, requests.Timeout) or "timed out" in str(cause):
        return RetryableError("the server did not answer in time")
    return RetryableError(str(cause) or type(cause).__name__)


def _explain_proxy(reason: str, url: str) -> Exception:
    """Return the error for a proxy that refuses or does not answer."""
    refusal = re.search(r"\b40[1379]\b|authentication", reason)
    message = f"the proxy {proxy_of(url)} "
    if not refusal:
        return RetryableError(f"{message}cannot be used: {reason}", hint=_PROXY_HINT)
    wants_login = refusal[0] in ("407", "authentication")
    login = "give it a login: https_proxy=http://USER:PASSWORD@HOST:PORT"
    return refused(url, f"{message}refuses: {reason}", login if wants_login else _PROXY_HINT)


def proxy_of(url: str) -> str:
    """Return the environment's proxy for an address, without its login; empty for none."""
    proxy = select_proxy(url, get_environ_proxies(url)) or ""
    return redact_url(proxy if "://" in proxy else f"http://{proxy}") if proxy else ""


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost exception that `requests` and `urllib3` wrapped."""
    wrapped = (getattr(error, "reason", None), *reversed(error.args), error.__cause__)
    inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
    return root_cause(inner) if inner else error


def _read_message(response: requests.Response) -> str:
    """Return what an error's answer says, as one line; empty where it says nothing."""
    if text := response.headers.get("X-Error-Message", ""):  # of the Hub
        return quote_answer(text.encode("latin-1", "replace"))
    with suppress(requests.RequestException, HTTPError, OSError):
        return quote_answer(response.raw.read1(ANSWER, decode_content=True))
    return ""


def wait_time(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait; None if it does not.

    `Retry-After` holds seconds or a date (RFC 9110, section 10.2.3). A date is compared with the
    server's own clock, so a wrong clock here does not matter. The Hub's `RateLimit: "api";r=0;t=55`
    says when its window ends (https://huggingface.co/docs/hub/rate-limits).
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    with suppress(TypeError, ValueError):
        then = email.utils.parsedate_to_datetime(value)
        now = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    limit = re.search(r";\s*r=0\b.*?;\s*t=(\d+)", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else None


def is_internal(url: str) -> bool:
    """Return whether the environment's no_proxy excepts an address, by name or CIDR range.

    `requests` knows ranges of IPv4 only.
    """
    host = urlsplit(url).hostname
    with suppress(ValueError):
        address = ipaddress.IPv6Address(host or "")
        return any(address in network for network in _ipv6_exceptions())
    return bool(host) and bool(requests.utils.should_bypass_proxies(url, None))


def _ipv6_exceptions() -> Iterator[ipaddress.IPv6Network]:
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for text in excepted.replace("*", "::/0").split(","):
        with suppress(ValueError):
            yield ipaddress.IPv6Network(text.strip().strip("[]"), strict=False)
