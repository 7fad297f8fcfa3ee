"""Folders: those the WebUI writes to at start, and the repositories that it imports from."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from modules import shared
from modules.cmd_args import HERE

REPOSITORIES = {
    "stable-diffusion-stability-ai": "ldm/models/diffusion/ddpm.py",
    "generative-models": "sgm",
    "k-diffusion": "k_diffusion/sampling.py",
    "BLIP": "models/blip.py",
}


models_path = ""
"""Folder of the models, for extensions."""


def light() -> bool:
    """Whether this process was asked to do without torch."""
    return os.environ.get("STANDIN_TORCH") == "0"


def prepare(flags: argparse.Namespace) -> None:
    """Make the writable folders, and make the repositories importable.

    Raises:
        OSError: a folder cannot be made; the real WebUI ends on that too.
        AssertionError: a repository is missing.
    """
    global models_path
    shared.cmd_opts, models_path = flags, flags.models_dir
    (Path(flags.data_dir) / "extensions").mkdir(parents=True, exist_ok=True)
    # Beside the program and not in the data folder, as upstream's modules/config_states.py does.
    (HERE / "config_states").mkdir(exist_ok=True)
    (Path(flags.models_dir) / "Stable-diffusion").mkdir(parents=True, exist_ok=True)
    if light():
        return
    for name, proof in REPOSITORIES.items():
        repository = HERE / "repositories" / name
        assert (repository / proof).exists(), f"Couldn't find {name} in {repository}"
        sys.path.insert(0, str(repository))
