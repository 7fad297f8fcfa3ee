"""Start local replacements for outside services that a build uses, and write their config.

For machines that reach neither GitHub nor the Hub, and for small builds:

    python -m tests.support.up --config standins.yaml -- invoke build --variant cpu

runs the command with IMAGE_CONFIG set to that file; without a command the services stay up until
interrupted. `--git` and `--hub` serve given repositories and models instead of made-up ones, and
`--overlay` is a config file that is merged over the one written, for the commits and checksums of
what is served.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from scripts.common.diagnostics.error import UserError
from scripts.host.config.layers import Layer, merge, read_layer
from scripts.host.config.load import ROOT
from scripts.host.console import note, print_error
from scripts.host.interruption import raise_on_signals
from tests.support import git_server, images
from tests.support.hub import HubServer
from tests.support.inputs import CHECKPOINT_FILE, CHECKPOINT_REPO, make_hub
from tests.support.registry import Registry
from tests.support.serving import Server, running

# The same addresses each time, where they are free: they are build arguments, and so part of
# BuildKit's cache keys.
_GIT_PORT, _HUB_PORT, _REGISTRY_PORT = 18081, 18082, 18083

AnyServer = TypeVar("AnyServer", bound=Server)


@dataclass(frozen=True)
class StandIns:
    """The running services.

    Args:
        base_download: image in place of alpine/git.
        base_runtime: image in place of pytorch/pytorch.
        config: file for IMAGE_CONFIG that points every outside source at a stand-in.
        checkpoint: the model file that the Hub serves for config.yaml's checkpoint.
        hub: the Hub, with the requests that it received.
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
def stand_ins(
    folder: Path,
    config: Path,
    *,
    git_root: Path | None = None,
    hub_root: Path | None = None,
    overlay: Path | None = None,
) -> Iterator[StandIns]:
    """Run every service until the block ends.

    Args:
        folder: for made-up repositories and models, and for the registry's blobs.
        config: the config file to write.
        git_root: bare repositories to serve (OWNER/NAME); made up in `folder` by default.
        hub_root: models to serve (OWNER/NAME/files); made up in `folder` by default.
        overlay: config file that is merged over the one written.

    Raises:
        UserError: a program, a given folder or the overlay is missing, or a base image cannot be
            made.
    """
    for given in filter(None, (git_root, hub_root)):
        if not given.is_dir():
            raise UserError("there is no such folder", location=str(given))
    over = read_layer(overlay, str(overlay)) if overlay else Layer({})
    settings: dict[str, Any] = {}
    if not git_root:
        git_root = folder / "git"
        settings["a1111"] = {"sources": _sources(git_server.repositories(git_root))}
    checkpoint = (hub_root or folder / "hub") / CHECKPOINT_REPO / CHECKPOINT_FILE
    if not hub_root:
        hub_root = make_hub(folder / "hub")
        settings["models"] = _models(checkpoint)
    download, runtime = images.base_download(), images.base_runtime()
    with ExitStack() as up:
        git = _on(_GIT_PORT, lambda port: git_server.GitServer(git_root, port=port))
        up.enter_context(running(git))
        hub = _on(_HUB_PORT, lambda port: HubServer(hub_root, port=port))
        up.enter_context(running(hub))
        blobs = _registry(folder / "registry")
        up.callback(blobs.kill)
        settings |= {
            "image": {"repository": f"{blobs.address}/a1111-worker-test"},
            "base": {"download": download, "runtime": runtime},
            "mirrors": {
                "github": git.url,
                "huggingface": hub.url,
                "ca_bundle": str(images.ca_bundle()),
            },
            "build": {"network": "host"},  # where the loopback is this machine's
            "variants": _without_blackwell(),
        }
        tree = merge(Layer(settings), over).tree
        config.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        yield StandIns(download, runtime, config, checkpoint, hub, git.url, blobs.address)


def _on(port: int, make: Callable[[int], AnyServer]) -> AnyServer:
    """Make a server on its usual port, or on any other when that is taken."""
    try:
        return make(port)
    except OSError:
        return make(0)


def _registry(root: Path) -> Registry:
    """Start a registry on its usual port, or on any other when that is taken."""
    try:
        return Registry(root, port=_REGISTRY_PORT)
    except UserError:
        return Registry(root)


def _configured() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return config


def _without_blackwell() -> dict[str, Any]:
    """Return the GPU targets of each CUDA variant as the stand-in base has code for.

    Its torch is that of the package index, which is built for CUDA 12.6 and ends with 9.0.
    """
    variants = _configured()["variants"]
    cuda = [name for name, changes in variants.items() if not _draws_on_cpu(changes)]
    return {name: {"smoke": {"targets": ["8.9"]}} for name in cuda}


def _draws_on_cpu(changes: dict[str, Any]) -> bool:
    return bool(changes.get("build", {}).get("accelerator") == "cpu")


def _sources(commits: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return the sources that config.yaml names, at the commits of their stand-ins."""
    sources = _configured()["a1111"]["sources"]
    return {
        name: {"repo": source["repo"], "commit": commits[source["repo"]]}
        for name, source in sources.items()
    }


def _models(checkpoint: Path) -> list[dict[str, Any]]:
    """Return config.yaml's models, with the size and checksum of the small checkpoint."""
    models: list[dict[str, Any]] = _configured()["models"]
    for model in models:
        if model["source"].get("hub") == CHECKPOINT_REPO:
            content = checkpoint.read_bytes()
            model |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return models


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit status; interrupted, it may remove what it began."""
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise


def main() -> None:
    """Start the services, then run a command or wait."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="the config file to write")
    parser.add_argument(
        "--git", type=Path, metavar="DIR", help="serve bare repositories DIR/OWNER/NAME"
    )
    parser.add_argument("--hub", type=Path, metavar="DIR", help="serve models DIR/OWNER/NAME/files")
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE", help="config merged over the one written"
    )
    parser.add_argument("command", nargs="*", help="run this with IMAGE_CONFIG set, then end")
    options = parser.parse_args()
    config = options.config.resolve()
    raise_on_signals()  # the registry must not outlive it
    given = {"git_root": options.git, "hub_root": options.hub, "overlay": options.overlay}
    try:
        with tempfile.TemporaryDirectory() as folder, stand_ins(Path(folder), config, **given):
            if options.command:
                sys.exit(_run(options.command, {**os.environ, "IMAGE_CONFIG": str(config)}))
            note(f"stand-ins are up; use them with: IMAGE_CONFIG={config} invoke build")
            threading.Event().wait()
    except UserError as failure:
        print_error(failure)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
