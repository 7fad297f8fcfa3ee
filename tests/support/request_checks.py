"""Checks of what requests name, for tests: weights lie below a folder of the test."""

from __future__ import annotations

from pathlib import Path

from scripts.common.models.weights import Use, weights_for
from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.availability.weights_check import WeightPlaces


def make_checks(client: WebuiClient, folder: Path) -> RequestChecks:
    """Return checks against a WebUI that is not replaced, with `folder` as its data folder."""
    available = Available(client, lambda: 1, lambda: None)
    return RequestChecks(available, WeightPlaces(folder, folder, {}))


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
        files.append(file)
    return files
