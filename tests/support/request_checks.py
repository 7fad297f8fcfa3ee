"""Context and checks of jobs, for tests: weights lie below a folder of the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scripts.common.models.weights import Use, weights_for
from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.availability.weights_check import WeightPlaces
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.request.webui_facts import WebuiFacts


def make_checks(facts: WebuiFacts, folder: Path) -> RequestChecks:
    """Return checks against a WebUI that is not replaced, with `folder` as its data folder."""
    available = Available(facts, lambda: None)
    return RequestChecks(available, WeightPlaces(folder, folder, {}))


def make_context(client: WebuiClient, folder: Path, **given: Any) -> JobContext:
    """Return what jobs run in against a WebUI that is ready and not replaced.

    Args:
        client: of the WebUI.
        folder: data folder and folder of the WebUI.
        given: further fields, or others.
    """
    facts = given.get("facts") or WebuiFacts(client, lambda: 1)
    usual = {
        "facts": facts,
        "checks": make_checks(facts, folder),
        "wait_until_ready": lambda _: None,
        "replace_webui": lambda: None,
    }
    return JobContext(client, **{**usual, **given})


def place_weights(folder: Path, use: Use, name: str) -> list[Path]:
    """Create the files that something needs; return them.

    Args:
        folder: data folder and folder of the WebUI; the Hub's cache (HF_HOME) is `hf` in it.
        use: what needs them.
        name: its name in A1111.
    """
    files = []
    for weight in weights_for(use, name):
        if weight.is_hub_cache:
            file = folder / "hf/hub" / f"models--{weight.hub}" / "snapshots/1" / weight.file
        elif weight.data_path:
            file = folder / weight.data_path
        else:
            file = folder.joinpath(*Path(weight.path).parts[2:])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"weights")
        if weight.name == "clip-vit-l-14":
            os.truncate(file, weight.size or 0)  # A1111 takes no file of another size
        files.append(file)
    return files
