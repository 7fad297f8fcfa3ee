"""Brings up everything the build reaches for outside, and says so in one config file.

For whoever has no network, or wants no gigabytes:

    python -m tests.support.up --config standins.yaml -- invoke build --variant cpu

runs the command with IMAGE_CONFIG naming that file; without a command it stays until interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.console import fail, note
from tests.support import git_server, images
from tests.support.hub import HubServer
from tests.support.inputs import CHECKPOINT_FILE, CHECKPOINT_REPO, make_hub
from tests.support.registry import Registry
from tests.support.serving import Server, running

# The same addresses each time, where they are free: they are build arguments, and so part of what
# BuildKit's cache goes by.
_GIT_PORT, _HUB_PORT, _REGISTRY_PORT = 18081, 18082, 18083

AnyServer = TypeVar("AnyServer", bound=Server)


@dataclass(frozen=True)
class StandIns:
    """What is up.

    Args:
        base_download: image in place of alpine/git.
        base_runtime: image in place of pytorch/pytorch.
        config: file for IMAGE_CONFIG that points every outside source at a stand-in.
        checkpoint: the model file that the Hub serves.
        hub: the Hub, with the requests it was sent.
        git: address of the git host.
        registry: host:port of the registry that image.repository is in.
    """

    base_download: str
    base_runtime: str
    config: Path
    checkpoint: Path
    hub: HubServer
    git: str
    registry: str


@contextmanager
def stand_ins(folder: Path, config: Path) -> Iterator[StandIns]:
    """Everything up until the block ends.

    Args:
        folder: for repositories, models and blobs.
        config: the config file to write.

    Raises:
        UserError: a program is missing, or a base image cannot be made.
    """
    download, runtime = images.base_download(), images.base_runtime()
    commits = git_server.repositories(folder / "git")
    checkpoint = make_hub(folder / "hub") / CHECKPOINT_REPO / CHECKPOINT_FILE
    with ExitStack() as up:
        git = _on(_GIT_PORT, lambda port: git_server.GitServer(folder / "git", port=port))
        up.enter_context(running(git))
        hub = _on(_HUB_PORT, lambda port: HubServer(folder / "hub", port=port))
        up.enter_context(running(hub))
        blobs = _registry(folder / "registry")
        up.callback(blobs.kill)
        settings = {
            "image": {"repository": f"{blobs.address}/a1111-worker-test"},
            "base": {"download": download, "runtime": runtime},
            "a1111": {"sources": _sources(commits)},
            "mirrors": {
                "github": git.url,
                "huggingface": hub.url,
                "ca_bundle": str(images.ca_bundle()),
            },
            "models": _models(checkpoint),
            "build": {"network": "host"},  # where the loopback is this machine's
        }
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        yield StandIns(download, runtime, config, checkpoint, hub, git.url, blobs.address)


def _on(port: int, make: Callable[[int], AnyServer]) -> AnyServer:
    """A server on its usual port, or on any other when that is taken."""
    try:
        return make(port)
    except OSError:
        return make(0)


def _registry(root: Path) -> Registry:
    """A registry likewise."""
    try:
        return Registry(root, port=_REGISTRY_PORT)
    except UserError:
        return Registry(root)


def _configured() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return config


def _sources(commits: dict[str, str]) -> dict[str, dict[str, str]]:
    """The sources that config.yaml names, at the commits of their stand-ins."""
    sources = _configured()["a1111"]["sources"]
    return {
        name: {"repo": source["repo"], "commit": commits[source["repo"]]}
        for name, source in sources.items()
    }


def _models(checkpoint: Path) -> list[dict[str, Any]]:
    """The models that config.yaml names, with the size and checksum of the small checkpoint."""
    models: list[dict[str, Any]] = _configured()["models"]
    for model in models:
        if model["source"].get("hub") == CHECKPOINT_REPO:
            content = checkpoint.read_bytes()
            model |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return models


def main() -> None:
    """Bring everything up, then run a command or wait."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--config", type=Path, required=True, help="the config file to write")
    words.add_argument("command", nargs="*", help="run this, with IMAGE_CONFIG set, then end")
    given = words.parse_args()
    config = given.config.resolve()
    try:
        with tempfile.TemporaryDirectory() as folder, stand_ins(Path(folder), config):
            if given.command:
                environment = {**os.environ, "IMAGE_CONFIG": str(config)}
                sys.exit(subprocess.run(given.command, env=environment).returncode)
            note(f"stand-ins are up; use them with: IMAGE_CONFIG={config} invoke build")
            threading.Event().wait()
    except UserError as failure:
        fail(failure)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
