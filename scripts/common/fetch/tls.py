"""Decide which certificates every download, and every question to a mirror, trusts."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from scripts.common.diagnostics.error import UserError


@lru_cache(maxsize=4)
def ssl_context(ca_bundle: str) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates and those of several bundles.

    The bundles are `ca_bundle`, SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.

    Raises:
        UserError: one of them cannot be used.
    """
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


class TrustingAdapter(HTTPAdapter):
    """Trust the certificates of `ssl_context`, where `requests` trusts certifi's or one bundle."""

    def __init__(self, ca_bundle: str) -> None:
        self._context = ssl_context(ca_bundle)
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as in requests
        """Use the context for direct connections."""
        super().init_poolmanager(*args, **{**more, "ssl_context": self._context})

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:  # noqa: ANN401 - as in requests
        """Use the context for connections through a proxy."""
        return super().proxy_manager_for(proxy, **{**more, "ssl_context": self._context})

    def send(self, request: PreparedRequest, **more: Any) -> Response:  # type: ignore[override]  # noqa: ANN401 - requests passes keywords only
        """Ignore the bundle that `requests` takes from the environment: the context has it."""
        return super().send(request, **{**more, "verify": True})

    def cert_verify(self, *_: object, **__: object) -> None:
        """Add no certificates to a connection."""
