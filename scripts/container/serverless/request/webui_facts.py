"""Ask the running WebUI about itself: routes, options, samplers, and everything that it lists.

Each answer is read at its first use, and kept until the WebUI's process is replaced, or a job may
have changed what there is.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import OPTIONS, WebuiClient
from scripts.container.log import log
from scripts.container.serverless.request.samplers import Samplers
from scripts.container.serverless.request.webui_api import PREFIX, WebuiApi

DESCRIPTION: Final = "/openapi.json"
_TIMEOUT: Final = 30.0
"""Seconds: a refresh of many files on a network volume takes some, the first description, too."""


class WebuiFacts:
    """Answers of one WebUI.

    Args:
        client: of the WebUI.
        identify_process: returns a value that changes with each new process of the WebUI.

    Attributes:
        failed_upscales: what went wrong with upscaled images that the process has kept, by digest
            of the image and name of the upscaler.

    Raises:
        UserError: when something is read and the WebUI does not answer (code `webui-died`), or
            answers with an error (code `list-unreadable`).
    """

    def __init__(self, client: WebuiClient, identify_process: Callable[[], object]) -> None:
        self._client, self._identify_process = client, identify_process
        self._process: object = None
        self._answers: dict[str, Any] = {}
        self._api: tuple[WebuiApi | None, ...] = ()  # none before it is read
        self._lock = threading.RLock()
        self.failed_upscales: dict[tuple[str, str], str] = {}

    @property
    def api(self) -> WebuiApi | None:
        """Routes and fields; None if the WebUI cannot describe them.

        One model of an extension that pydantic cannot describe makes `/openapi.json` fail.
        """
        with self._lock:
            if not self._api:
                try:
                    self._api = (WebuiApi(self._request("GET", DESCRIPTION)),)
                except ValueError as error:
                    log("api-not-described", level="warning", reason=f"{DESCRIPTION}: {error}")
                    self._api = (None,)
            return self._api[0]

    @property
    def options(self) -> dict[str, Any]:
        """The WebUI's options and their values when they were read."""
        found = self.read(OPTIONS)
        return found if isinstance(found, dict) else {}

    @property
    def samplers(self) -> Samplers:
        """Names of samplers and schedulers; the latter are none before v1.9."""
        schedulers = self.read(f"{PREFIX}schedulers") or []
        return Samplers.parse(self.read(f"{PREFIX}samplers") or [], schedulers)

    def has_extensions(self) -> bool:
        """Return whether extensions are there that are not part of the WebUI."""
        return bool(self.find(f"{PREFIX}extensions"))

    def script_arguments(self, name: str, *, is_img2img: bool) -> list[dict[str, Any]] | None:
        """Return the arguments that a script takes, by its name; None for one without controls."""
        for row in self.find(f"{PREFIX}script-info") or ():
            if row["name"] == name.lower() and row["is_img2img"] == is_img2img:
                arguments: list[dict[str, Any]] | None = row.get("args")
                return arguments
        return None

    def read(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what a route answers; None where this release or its extensions do not have it."""
        with self._lock:
            if path not in self._answers:
                try:
                    self._answers[path] = self._request("GET", path)
                except ValueError as error:
                    raise _unreadable(path, str(error)) from None
            return self._answers[path]

    def find(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what a route answers; None where it does not exist, or fails."""
        try:
            return self.read(path)
        except UserError as error:
            if error.code == "webui-died":
                raise
            return None

    def post(self, path: str) -> None:
        """Have the WebUI do something that takes no body, such as a refresh."""
        try:
            self._request("POST", path)
        except ValueError as error:
            raise _unreadable(path, str(error)) from None

    def forget(self, path: str = "") -> None:
        """Read an answer anew at its next use; without a path every one but the description."""
        with self._lock:
            if path:
                self._answers.pop(path, None)
            else:
                self._answers.clear()

    def renew(self) -> None:
        """Forget everything about a process that runs no more; called before each request."""
        process = self._identify_process()
        with self._lock:
            if process != self._process:
                self._process, self._api = process, ()
                self._answers.clear()
                self.failed_upscales.clear()

    def prefetch(self) -> None:
        """Read what each job needs before the first one; a failure shows at that job."""
        with suppress(UserError):
            self.renew()
            _ = self.api, self.options, self.samplers

    def _request(self, method: str, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return an answer; None for a route that does not exist.

        Raises:
            UserError: no answer (code `webui-died`).
            ValueError: an error, or no JSON.
        """
        try:
            response = self._client.request(method, path, timeout=_TIMEOUT)
        except OSError as error:
            raise UserError(f"the WebUI does not answer: {error}", code="webui-died") from None
        if response.status in (404, 405):
            return None
        if response.status != 200:
            raise ValueError(response.error())
        return response.json()


def _unreadable(path: str, reason: str) -> UserError:
    message = f"what the WebUI has cannot be read: {path}: {reason}"
    return UserError(message, code="list-unreadable")
