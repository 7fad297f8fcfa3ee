"""Where contestants build: an engine whose caches may be emptied, and one set of inputs.

What lies in the yard's folder outlives a run, so that the base images (7 GB) are brought once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from scripts.host.config.load import LoadedConfig, load
from tests.support.engine import copy_image, engine
from tests.support.running import copy_of_the_checkout
from tests.support.up import stand_ins


@dataclass(frozen=True)
class Yard:
    """An engine, a checkout and a config.

    Args:
        folder: for scratch files.
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
    def environment(self) -> Mapping[str, str]:
        """What makes commands use this engine and this config."""
        return {
            "DOCKER_HOST": self.host,
            "IMAGE_CONFIG": str(self.config),
            "MODELS_STORE": str(self.folder / "store"),
            "NO_COLOR": "1",
        }

    @property
    def loaded(self) -> LoadedConfig:
        """The config, as it is now."""
        return load(self.variant, root=self.checkout)

    def engine(self) -> docker.DockerClient:
        """The SDK's client; builds in here take longer than its usual minute."""
        return docker.DockerClient(base_url=self.host, timeout=600)

    def layers(self, tag: str) -> list[str]:
        """Digests of an image's layers, base first."""
        return list(self.engine().images.get(tag).attrs["RootFS"]["Layers"])

    def size(self, tag: str) -> int:
        """Bytes of all its layers."""
        return int(self.engine().images.get(tag).attrs["Size"])

    def forget(self) -> None:
        """Empty every cache of a build: layers, cache mounts, images but the bases, models."""
        base = self.loaded.config.base
        for image in self.engine().images.list():
            if not {base.download, base.runtime} & set(image.tags):
                self.engine().images.remove(image.id, force=True)
        prune = ["docker", "--host", self.host, "buildx", "prune", "--all", "--force"]
        subprocess.run(prune, check=True, capture_output=True)
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        # A base image counts as there, and an engine that has pulled one has also unpacked it.
        for reference in (base.download, base.runtime):
            dockerfile = f"FROM {reference}\nRUN true\n"
            build = ["docker", "--host", self.host, "build", "--network=host", "-"]
            subprocess.run(build, input=dockerfile.encode(), check=True, capture_output=True)
        os.sync()


@contextmanager
def yard(folder: Path, variant: str) -> Iterator[Yard]:
    """A yard until the block ends.

    Args:
        folder: with a short path; what is in it is used again.
        variant: the one to build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "checkout", ignore_errors=True)
    with ExitStack() as up:
        config = up.enter_context(_inputs(folder))
        host = up.enter_context(engine(folder))
        here = Yard(folder, copy_of_the_checkout(folder / "checkout"), config, host, variant)
        base = here.loaded.config.base
        known = {tag for image in here.engine().images.list() for tag in image.tags}
        for reference in {base.download, base.runtime} - known:
            copy_image(reference, host)
        yield here


@contextmanager
def _inputs(folder: Path) -> Iterator[Path]:
    """A copy of the config that IMAGE_CONFIG names, or else stand-ins for everything outside."""
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
