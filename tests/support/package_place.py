"""A checkout, a WebUI's repository and a package index, all made up, for `invoke pin --python`."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from scripts.host.config.load import ROOT, LoadedConfig, load
from tests.support.serving import Server, running


class _Index(SimpleHTTPRequestHandler):
    """Serve folders of wheels; their listings are a package index (PEP 503)."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Place:
    """A checkout, the WebUI's repository and a package index.

    Args:
        root: the checkout.
        webui: the repository.
        wheels: what the index serves.
        url: where it answers.
    """

    root: Path
    webui: Path
    wheels: Path
    url: str

    def publish(self, name: str, version: str, *needs: str) -> None:
        """Put a wheel with nothing but metadata into the index."""
        folder = self.wheels / name
        folder.mkdir(exist_ok=True)
        stem = f"{name.replace('-', '_')}-{version}"
        metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        metadata += [f"Requires-Dist: {need}" for need in needs]
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(metadata) + "\n")
            wheel.writestr(
                f"{stem}.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")

    def publish_source(self, name: str, version: str, setup: str) -> None:
        """Put a source archive into the index whose metadata only its setup.py can give."""
        folder, stem = self.wheels / name, f"{name}-{version}"
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / f"{stem}.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo(f"{stem}/setup.py")
            entry.size = len(setup)
            archive.addfile(entry, io.BytesIO(setup.encode()))

    def release(self, *requirements: str) -> None:
        """Commit the WebUI's list of requirements."""
        (self.webui / "requirements_versions.txt").write_text("\n".join(requirements) + "\n")
        _commit(self.webui)
        _git(self.webui, "tag", "--force", "v1")

    def commit(self) -> str:
        """Return the WebUI's newest commit."""
        return _git(self.webui, "rev-parse", "HEAD")

    def extend(self, name: str, files: dict[str, str], **keys: Any) -> str:
        """Commit an extension with some files, add it to the config, and return its commit.

        Args:
            name: of its repository and folder.
            files: texts by name.
            keys: further keys of its config.
        """
        folder = self.root.parent / name
        folder.mkdir(exist_ok=True)
        for file, text in {"README.md": name, **files}.items():
            (folder / file).write_text(text)
        _git(folder, "init", "--quiet")
        commit = _commit(folder)
        path = self.root / "config.local.yaml"
        config = json.loads(path.read_text())
        others = [each for each in config.get("extensions", []) if each["name"] != name]
        added = {"name": name, "repo": folder.as_uri(), "commit": commit, **keys}
        path.write_text(json.dumps(config | {"extensions": [*others, added]}))
        return commit

    def drop_extensions(self) -> None:
        """Take all extensions out of the config."""
        path = self.root / "config.local.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"extensions": []}))

    def variant(self, name: str = "cuda128") -> LoadedConfig:
        """Load the config of a variant."""
        return load(name, root=self.root)

    def read(self, name: str) -> str:
        """Read a file below `requirements/`."""
        return (self.root / "requirements" / name).read_text()


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _commit(folder: Path) -> str:
    """Commit all files, and return the commit."""
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--allow-empty", "--message", "change")
    return _git(folder, "rev-parse", "HEAD")


@contextmanager
def package_place(folder: Path) -> Iterator[Place]:
    """Make the checkout and the repository below a folder, and serve the index."""
    root, webui, wheels = folder / "checkout", folder / "webui", folder / "wheels"
    for each in (root / "requirements", webui, wheels):
        each.mkdir(parents=True)
    _git(webui, "init", "--quiet")
    handler = partial(_Index, directory=str(wheels))
    with running(Server(("127.0.0.1", 0), handler)) as server:
        made = Place(root, webui, wheels, server.url)
        _fill(made)
        yield made


def _fill(place: Place) -> None:
    """Write a config, lists of requirements and packages that depend as the real ones do."""
    (place.root / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    webui = {"repo": place.webui.as_uri(), "commit": None}
    config = {
        "mirrors": {"python": place.url},
        "a1111": {"release": "v1", "sources": {"webui": webui}},
    }
    (place.root / "config.local.yaml").write_text(json.dumps(config))
    for name, lines in {
        "runpod.in": "runpod",
        "tools.in": "uv",
        "image.in": "ftfy",
        "image-cuda.in": "xformers==0.0.30",
        "base.in": "torch==2.7.0",
    }.items():
        (place.root / "requirements" / name).write_text(lines + "\n")
    groups = {"host": ["invoke"], "test": [], "lint": [], "bench": []}
    (place.root / "pyproject.toml").write_text(
        "[dependency-groups]\n" + "".join(f"{name} = {each}\n" for name, each in groups.items())
    )
    for name in ("invoke", "runpod", "uv", "ftfy", "mpmath", "numpy", "networkx"):
        place.publish(name, "1.0")
    place.publish("gradio", "1.0", "networkx")
    place.publish("sympy", "1.0", "mpmath")
    place.publish("nvidia-cudnn-cu12", "9.0")
    place.publish("triton", "3.3.0")
    place.publish("torch", "2.7.0", "nvidia-cudnn-cu12", "triton", "numpy", "sympy", "networkx")
    place.publish("xformers", "0.0.30", "torch==2.7.0")
    place.publish("torchsde", "0.2.6", "torch>=1.6", "numpy")
    place.release("gradio", "torch", "torchsde")


def names(lock: str) -> list[str]:
    """Return the packages of a lock."""
    return [line.partition("==")[0] for line in lock.splitlines() if line[:1].isalpha()]
