"""Facts about the running WebUI that jobs are checked against, read once for each process of it."""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import OPTIONS, WebuiClient
from scripts.container.log import log
from scripts.container.serverless.request.samplers import Samplers
from scripts.container.serverless.request.webui_api import WebuiApi

_TIMEOUT: Final = 30.0  # seconds; the WebUI builds its description at the first request for it


class WebuiFacts:
    """Facts about one process of the WebUI; each is read when it is first needed.

    Args:
        client: of the WebUI.

    Raises:
        UserError: when a fact is read and the WebUI does not answer (code `webui-died`), or
            answers with an error (code `answer-garbage`).
    """

    def __init__(self, client: WebuiClient) -> None:
        self._client = client
        self._found: dict[str, Any] = {}

    @cached_property
    def api(self) -> WebuiApi | None:
        """Routes and fields; None if the WebUI cannot describe them.

        One model of an extension that pydantic cannot describe makes `/openapi.json` fail.
        """
        try:
            return WebuiApi(self._request("/openapi.json"))
        except ValueError as error:
            log("api-not-described", level="warning", reason=f"/openapi.json: {error}")
            return None

    @cached_property
    def options(self) -> dict[str, Any]:
        """The WebUI's options and their values when they were first read."""
        found = self.read(OPTIONS)
        return found if isinstance(found, dict) else {}

    @cached_property
    def samplers(self) -> Samplers:
        """Names of samplers and schedulers."""
        has_schedulers = not self.api or bool(self.api.find("/sdapi/v1/schedulers"))
        schedulers = self.read("/sdapi/v1/schedulers") if has_schedulers else []
        return Samplers.parse(self.read("/sdapi/v1/samplers"), schedulers)

    def has_extensions(self) -> bool:
        """Return whether extensions are there that are not part of the WebUI."""
        return bool(self.find("/sdapi/v1/extensions"))

    def script_arguments(self, name: str, *, is_img2img: bool) -> list[dict[str, Any]] | None:
        """Return the arguments that a script takes, by its name; None for one without controls."""
        for row in self.find("/sdapi/v1/script-info") or ():
            if row["name"] == name.lower() and row["is_img2img"] == is_img2img:
                arguments: list[dict[str, Any]] | None = row.get("args")
                return arguments
        return None

    def find(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what a route answers; None where it does not exist, or fails. Read once.

        Raises:
            UserError: no answer (code `webui-died`).
        """
        if path not in self._found:
            try:
                self._found[path] = self._request(path)
            except ValueError:
                self._found[path] = None
        return self._found[path]

    def read(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Read a list or object of the WebUI, now.

        Raises:
            UserError: no answer (code `webui-died`), or an error (code `answer-garbage`).
        """
        try:
            return self._request(path)
        except ValueError as error:
            reason = f"the WebUI cannot be asked for {path}: {error}"
            raise UserError(reason, code="answer-garbage") from None

    def _request(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        try:
            return self._client.read(path, timeout=_TIMEOUT)
        except OSError as error:
            raise UserError(f"the WebUI does not answer: {error}", code="webui-died") from None


class FactsCache:
    """Facts about whichever process of the WebUI runs.

    Args:
        client: of the WebUI.
        identify_process: returns a value that changes with each new process.
    """

    def __init__(self, client: WebuiClient, identify_process: Callable[[], object]) -> None:
        self._client, self._identify_process = client, identify_process
        self._process: object = None
        self._facts = WebuiFacts(client)

    def prefetch(self) -> None:
        """Read the facts before the first job needs them; a failure shows at that job."""
        with suppress(UserError):
            facts = self.current()
            _ = facts.api, facts.options, facts.samplers

    def current(self) -> WebuiFacts:
        """Return the facts about the running process; read anew after a restart."""
        process = self._identify_process()
        if process != self._process:
            self._process, self._facts = process, WebuiFacts(self._client)
        return self._facts
