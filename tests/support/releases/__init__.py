"""Answers of A1111 releases about themselves: routes, fields, options, and all that they list.

Recorded from the running WebUI of each release, without extensions; of `/openapi.json` only what
describes requests. Long texts in options are left out. `extensions.json` holds what v1.9.3
answered with ADetailer 25.3.0, ControlNet 1.1.455 and Regional Prompter be62345; most modules of
ControlNet are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.request.webui_facts import WebuiFacts

RELEASES = ("v1.9.3", "v1.10.1")


@cache
def recorded(release: str) -> dict[str, Any]:
    """Answers of a release by path."""
    path = Path(__file__).with_name(f"{release}.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def recorded_extensions() -> dict[str, Any]:
    """Answers of v1.9.3 with three extensions, by path, for those of the release itself."""
    found: dict[str, Any] = recorded("extensions")
    rows = [*recorded(RELEASES[0])["/sdapi/v1/script-info"], *found["/sdapi/v1/script-info"]]
    return {**found, "/sdapi/v1/script-info": rows}


class RecordedFacts(WebuiFacts):
    """The facts of a release, without a WebUI."""

    def __init__(
        self, release: str = RELEASES[-1], changes: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(WebuiClient("http://recorded.invalid"), lambda: 1)
        self.answers = {**recorded(release), **(changes or {})}

    def _request(self, method: str, path: str) -> Any:
        assert method == "GET"
        return self.answers.get(path)
