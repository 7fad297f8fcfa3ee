"""Look up names in what the running WebUI has: models, samplers, scripts and the like."""

import operator
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.availability.accepted_names import (
    API,
    INTERROGATORS,
    REFRESHES,
    SOURCES,
    Kind,
    Names,
)
from scripts.container.serverless.request.webui_facts import WebuiFacts


class Available:
    """Names that the running WebUI knows.

    Args:
        facts: of the WebUI.
        link_new_models: links models that have appeared on the volume into the WebUI's folders.
    """

    def __init__(self, facts: WebuiFacts, link_new_models: Callable[[], None]) -> None:
        self.facts, self.link_new_models = facts, link_new_models
        self._parsed: dict[Kind, tuple[list[Any], Names]] = {}

    def names(self, kind: Kind) -> Names | None:
        """Return the names of a kind; None where this WebUI has no list of it.

        Raises:
            UserError: the list cannot be read.
        """
        if kind == "interrogator":
            return INTERROGATORS
        answers = [self.facts.read(path) for path, _ in SOURCES[kind]]
        if None in answers:
            return None
        of, names = self._parsed.get(kind, ([], None))
        if names is None or not all(map(operator.is_, of, answers)):  # read anew since
            names = _parse(kind, answers)
            self._parsed[kind] = answers, names
        return names

    def rows(self, route: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the answer of a route below /sdapi/v1 that lists something; None without it.

        Raises:
            UserError: it cannot be read.
        """
        return self.facts.read(f"{API}/{route}")

    def refresh(self, kinds: Iterable[Kind]) -> None:
        """Link new models of the volume, and have the WebUI look for those of some kinds.

        Raises:
            UserError: the WebUI does not answer; the lists are as they were.
        """
        kinds = [kind for kind in kinds if kind in REFRESHES]
        if kinds:
            self.link_new_models()
            self.reload(kinds)

    def reload(self, kinds: Iterable[Kind]) -> None:
        """Have the WebUI look for new files of some kinds that it can look for.

        Raises:
            UserError: the WebUI does not answer; the lists are as they were.
        """
        for route in dict.fromkeys(REFRESHES[kind] for kind in kinds):
            if route:
                self.facts.post(route)
        self.facts.forget()

    def has_checkpoint_hash(self, name: str) -> bool:
        """Return whether a checkpoint has the old hash of 8 digits (sd_models.py:199-209)."""
        wanted = name.rpartition("[")[2].removesuffix("]")
        rows = self.rows("sd-models") if len(wanted) == len("01234567") else None
        return any(_old_hash(row["filename"]) == wanted for row in rows or ())


def _parse(kind: Kind, answers: list[Any]) -> Names:
    parts: list[Names] = []
    for (path, parse), answer in zip(SOURCES[kind], answers, strict=True):
        try:
            parts.append(parse(answer))
        except (KeyError, TypeError, AttributeError) as error:
            message = f"what the WebUI has cannot be read: {path}: {error!r}"
            raise UserError(message, code="list-unreadable") from None
    if len(parts) == 1:
        return parts[0]
    return Names(
        frozenset().union(*(part.accepted for part in parts)),
        tuple(dict.fromkeys(name for part in parts for name in part.shown)),
        files={name: file for part in parts for name, file in part.files.items()},
    )


def _old_hash(path: str) -> str:
    """Return the hash by which older releases named checkpoints; empty for a file that is gone."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0x100000)
            return sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError:
        return ""
