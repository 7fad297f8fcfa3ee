"""Environments that benchmarks run in: an engine of their own, a Hub process, model configs."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import yaml

from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from tests.support.engine import copy_image, engine
from tests.support.running import copy_of_the_checkout
from tests.support.up import stand_ins

_BLOCK = 1 << 24


@dataclass(frozen=True)
class BuildEnvironment:
    """An engine whose caches may be emptied, and one set of inputs for all candidates.

    Args:
        folder: for scratch files. It is kept between runs, so that base images (7 GB) are copied
            once.
        checkout: a copy of the project, to be edited.
        config: file for IMAGE_CONFIG.
        host: address of the engine.
        variant: the one that is built.
    """

    folder: Path
    checkout: Path
    config: Path
    host: str
    variant: str

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that select this engine, this config and a model store."""
        return {
            "DOCKER_HOST": self.host,
            "IMAGE_CONFIG": str(self.config),
            "MODELS_STORE": str(self.folder / "store"),
            "NO_COLOR": "1",
        }

    @property
    def inputs(self) -> BuildInputs:
        """Inputs of a build with the config as it is now."""
        return resolve(load(self.variant, root=self.checkout))

    def engine(self) -> docker.DockerClient:
        """Return a client of the engine; builds in here take longer than its default minute."""
        return docker.DockerClient(base_url=self.host, timeout=600)

    def layers(self, tag: str) -> list[str]:
        """Return the digests of an image's layers, base first."""
        return list(self.engine().images.get(tag).attrs["RootFS"]["Layers"])

    def size(self, tag: str) -> int:
        """Return the bytes of all layers of an image."""
        return int(self.engine().images.get(tag).attrs["Size"])

    def clear_caches(self, *, keep_models: bool = False) -> None:
        """Remove layers, cache mounts, models unless kept, and all images but the bases."""
        inputs = self.inputs
        bases = (inputs.download_base.reference, inputs.runtime_base.reference)
        for image in self.engine().images.list():
            if not set(bases) & set(image.tags):
                self.engine().images.remove(image.id, force=True)
        prune = ["docker", "--host", self.host, "buildx", "prune", "--all", "--force"]
        subprocess.run(prune, check=True, capture_output=True)
        if not keep_models:
            shutil.rmtree(self.folder / "store", ignore_errors=True)
        # Base images count as pulled, and an engine that has pulled one has also unpacked it.
        for reference in bases:
            dockerfile = f"FROM {reference}\nRUN true\n"
            build = ["docker", "--host", self.host, "build", "--network=host", "-"]
            subprocess.run(build, input=dockerfile.encode(), check=True, capture_output=True)
        os.sync()


@contextmanager
def build_environment(folder: Path, variant: str) -> Iterator[BuildEnvironment]:
    """Run an engine with the base images until the block ends.

    Args:
        folder: with a short path; its content is used again.
        variant: the one to build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "checkout", ignore_errors=True)
    with ExitStack() as up:
        config = up.enter_context(_outside_inputs(folder))
        host = up.enter_context(engine(folder))
        checkout = copy_of_the_checkout(folder / "checkout")
        environment = BuildEnvironment(folder, checkout, config, host, variant)
        inputs = environment.inputs
        known = {tag for image in environment.engine().images.list() for tag in image.tags}
        for base in (inputs.download_base, inputs.runtime_base):
            if base.reference not in known:
                copy_image(base.reference, host)
        yield environment


@contextmanager
def _outside_inputs(folder: Path) -> Iterator[Path]:
    """Copy the config that IMAGE_CONFIG names, or start stand-ins for every outside source."""
    named, config = os.environ.get("IMAGE_CONFIG"), folder / "config.yaml"
    with ExitStack() as up:
        if named:
            shutil.copyfile(named, config)
        else:
            shutil.rmtree(folder / "standins", ignore_errors=True)
            (folder / "standins").mkdir()
            up.enter_context(stand_ins(folder / "standins", config))
        os.environ["IMAGE_CONFIG"] = str(config)
        yield config


@contextmanager
def hub_process(root: Path, rate: int = 0) -> Iterator[str]:
    """Serve models from a process of its own, until the block ends; its address.

    Args:
        root: folder of owner/repo/files.
        rate: bytes a second and connection; 0 for no limit.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--root", str(root), "--port", str(port), "--rate", str(rate)]
    command = [sys.executable, "-m", "tests.support.hub", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout  # noqa: S101 - a pipe
        server.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def make_file(path: Path, length: int) -> str:
    """Write a file that does not compress; return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block, digest = os.urandom(_BLOCK), hashlib.sha256()
    with path.open("wb") as stream:
        for start in range(0, length, _BLOCK):
            part = block[: min(_BLOCK, length - start)]
            stream.write(part)
            digest.update(part)
    return digest.hexdigest()


def write_model_config(
    folder: Path,
    models: list[dict[str, Any]],
    **more: Any,  # noqa: ANN401 - config values
) -> dict[str, str]:
    """Write a config of these models and an empty store; return variables that select both."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"models": models, **more}), encoding="utf-8")
    return {"IMAGE_CONFIG": str(config), "MODELS_STORE": str(folder / "store"), "NO_COLOR": "1"}


def hub_model(repository: str, name: str, sha256: str) -> dict[str, Any]:
    """Return a config entry for a file of the Hub."""
    source = {"hub": repository, "file": name, "revision": "main"}
    checks = {"sha256": sha256, "allow_pickle": True}
    return {"name": f"m{name}", "source": source, "path": f"/{name}", **checks}


def run_prefetch(variables: Mapping[str, str]) -> tuple[float, int]:
    """Run `invoke models.prefetch`; return its seconds and peak memory in bytes.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "invoke", "models.prefetch"]
    with tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, used = os.wait4(child.pid, 0)
        took = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise SystemExit(errors.read()[-500:])
    return took, used.ru_maxrss * 1024
