"""Call RunPod's REST API v2, and report what it refuses.

Documented at https://docs.runpod.io/api-reference-v2/overview, read in August 2026. Nothing is
tried again by itself: a request that was refused with 429 has changed nothing, and of one that got
no answer nobody knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import requests

from scripts.common.diagnostics.error import UserError
from scripts.common.secrets import read_token

BASE: Final = "https://api.runpod.io"
KEY: Final = "RUNPOD_API_KEY"
BASE_VARIABLE: Final = "RUNPOD_API_BASE_URL"
"""Variable with another address, as RunPod's SDK 2.0 reads it."""
_TIMEOUT: Final = 60  # seconds

Json = dict[str, Any]


@dataclass(frozen=True)
class RunpodApi:
    """RunPod's REST API with a key.

    Args:
        base: its address.
        key: of an account.
        ca_bundle: PEM file trusted instead of the usual ones; empty for those.
    """

    base: str
    key: str
    ca_bundle: str = ""

    @classmethod
    def from_environment(cls, ca_bundle: str = "") -> RunpodApi:
        """Take key and address of the environment.

        Raises:
            UserError: there is no key (code `runpod-refused`).
        """
        key = read_token(KEY)
        if not key:
            raise UserError(f"{KEY} is not set", code="runpod-refused")
        return cls(os.environ.get(BASE_VARIABLE, "").rstrip("/") or BASE, key, ca_bundle)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Send a request and return the answer's object.

        Args:
            method: GET, POST or PATCH.
            path: such as `/v2/serverless`.
            body: sent as JSON.

        Raises:
            UserError: no answer, an error (see `_explain`), or no JSON object.
        """
        location = f"{method} {path}"
        try:
            answer = requests.request(
                method,
                f"{self.base}{path}",
                json=body,
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=_TIMEOUT,
                verify=self.ca_bundle or True,
            )
        except requests.RequestException as error:
            message = f"RunPod does not answer: {type(error).__name__}"
            raise UserError(
                message, location=f"{method} {self.base}{path}", code="runpod-lost"
            ) from None
        content = _parse(answer)
        if answer.status_code >= 400:
            raise _explain(answer, content, location)
        if content is None:
            message = f"RunPod's answer {answer.status_code} is no JSON object"
            raise UserError(message, location=location, code="runpod-lost")
        return content

    def list_all(self, path: str, name: str) -> Iterator[Json]:
        """Yield the rows of a list, page by page.

        Args:
            path: such as `/v2/serverless`.
            name: of the list in the answer.

        Raises:
            UserError: as `call`.
        """
        cursor: str | None = ""
        while True:
            answer = self.call("GET", f"{path}?cursor={quote(cursor)}" if cursor else path)
            yield from answer.get(name, ())
            # Not in the document of August 2026, but read by RunPod's SDK 2.0.0rc2.
            page = answer.get("pagination") or {}
            cursor = page.get("nextCursor") if page.get("hasNextPage") else ""
            if not cursor:
                return


def _parse(answer: requests.Response) -> Json | None:
    try:
        content = answer.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _explain(answer: requests.Response, content: Json | None, location: str) -> UserError:
    """Describe an error, which is an object of RFC 9457 with a list `errors` beside it."""
    fields = content or {}
    parts = [
        fields.get("detail") or fields.get("title") or answer.reason,
        *fields.get("errors", ()),
    ]
    said = "; ".join(map(str, filter(None, parts)))
    status = answer.status_code
    if status in (401, 403):
        return UserError(
            f"RunPod refuses the key: {said}", location=location, code="runpod-refused"
        )
    if status == 404:
        return UserError(f"RunPod has no such thing: {said}", location=location, code="runpod-gone")
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        hint = f"wait {wait} s, and run it again: nothing was changed" if wait.isdigit() else ""
        message = f"RunPod gets too many requests: {said}"
        return UserError(message, location=location, hint=hint, code="runpod-busy")
    if status >= 500:
        message = f"RunPod fails with {status}: {said}"
        return UserError(message, location=location, code="runpod-lost")
    return UserError(f"RunPod answers {status}: {said}", location=location, code="runpod-invalid")
