"""Read and keep what the running WebUI has: models, samplers, scripts and the like.

Each list is read at its first use and kept until the WebUI's process is replaced, or a job has the
WebUI look for files again.
"""

import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.availability.accepted_names import (
    API,
    INTERROGATORS,
    REFRESHES,
    SOURCES,
    Kind,
    Names,
)

_TIMEOUT: Final = 30.0  # seconds; a refresh of many files on a network volume takes some


class Available:
    """Lists of the running WebUI.

    Args:
        client: of the WebUI.
        identify_process: returns a value that changes with each new process of the WebUI.
        link_new_models: links models that have appeared on the volume into the WebUI's folders.

    Attributes:
        link_new_models: as above.
        failed_upscales: what went wrong with upscaled images that the process has kept, by digest
            of the image and name of the upscaler.
    """

    def __init__(
        self,
        client: WebuiClient,
        identify_process: Callable[[], object],
        link_new_models: Callable[[], None],
    ) -> None:
        self._client, self._identify_process = client, identify_process
        self.link_new_models = link_new_models
        self.failed_upscales: dict[tuple[str, str], str] = {}
        self._answers: dict[str, Any] = {}
        self._names: dict[Kind, Names | None] = {}
        self._process: object = None
        self._lock = threading.RLock()

    def names(self, kind: Kind) -> Names | None:
        """Return the names of a kind; None where this WebUI has no list of it.

        Raises:
            UserError: the list cannot be read.
        """
        if kind == "interrogator":
            return INTERROGATORS
        with self._lock:
            self.forget_if_replaced()
            if kind not in self._names:
                self._names[kind] = self._read_names(kind)
            return self._names[kind]

    def rows(self, route: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the answer of a route below /sdapi/v1 that lists something; None without it.

        Raises:
            UserError: it cannot be read.
        """
        with self._lock:
            self.forget_if_replaced()
            return self._read(f"{API}/{route}")

    def refresh(self, kinds: Iterable[Kind]) -> None:
        """Have the WebUI look for new files of some kinds; a failure leaves the lists as they were.

        Raises:
            UserError: the WebUI does not answer.
        """
        renewed = [kind for kind in dict.fromkeys(kinds) if kind in REFRESHES]
        if not renewed:
            return
        with self._lock:
            self.link_new_models()
            for route in dict.fromkeys(REFRESHES[kind] for kind in renewed):
                if route:
                    self._request("POST", route)
            self.forget()

    def forget(self) -> None:
        """Read every list anew at its next use, for example after a job that refreshes one."""
        with self._lock:
            self._answers.clear()
            self._names.clear()

    def forget_rows(self, route: str) -> None:
        """Read one route below /sdapi/v1 anew at its next use."""
        with self._lock:
            self._answers.pop(f"{API}/{route}", None)

    def has_checkpoint_hash(self, name: str) -> bool:
        """Return whether a checkpoint has the old hash of 8 digits (sd_models.py:199-209)."""
        wanted = name.rpartition("[")[2].removesuffix("]")
        rows = self.rows("sd-models") if len(wanted) == len("01234567") else None
        return any(_old_hash(row["filename"]) == wanted for row in rows or ())

    def forget_if_replaced(self) -> None:
        """Forget what is known about a process of the WebUI that runs no more."""
        process = self._identify_process()
        if process != self._process:
            self.forget()
            self.failed_upscales.clear()
            self._process = process

    def _read_names(self, kind: Kind) -> Names | None:
        parts: list[Names] = []
        for path, parse in SOURCES[kind]:
            answer = self._read(path)
            if answer is None:
                return None
            try:
                parts.append(parse(answer))
            except (KeyError, TypeError, AttributeError) as error:
                raise _unreadable(path, repr(error)) from None
        if len(parts) == 1:
            return parts[0]
        return Names(
            frozenset().union(*(part.accepted for part in parts)),
            tuple(dict.fromkeys(name for part in parts for name in part.shown)),
            files={name: file for part in parts for name, file in part.files.items()},
        )

    def _read(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        if path not in self._answers:
            self._answers[path] = self._request("GET", path)
        return self._answers[path]

    def _request(self, method: str, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the answer; None for a route that this release or its extensions do not have."""
        try:
            response = self._client.request(method, path, timeout=_TIMEOUT)
            if response.status in (404, 405):
                return None
            if response.status != 200:
                raise _unreadable(path, response.error())
            return response.json()
        except (OSError, ValueError) as error:
            raise _unreadable(path, str(error)) from None


def _unreadable(path: str, reason: str) -> UserError:
    message = f"what the WebUI has cannot be read: {path}: {reason}"
    return UserError(message, code="list-unreadable")


def _old_hash(path: str) -> str:
    """Return the hash by which older releases named checkpoints; empty for a file that is gone."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0x100000)
            return sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError:
        return ""
