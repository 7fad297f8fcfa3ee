"""Run a real registry on loopback (Debian's docker-registry), open or with a login.

As a program:

    python -m tests.support.registry --root DIR
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.response import addinfourl

import yaml

from scripts.common.diagnostics.error import UserError

USER = "builder"
PASSWORD = "open sesame"  # noqa: S105 - of a registry that lives as long as a test
# perl -e 'print crypt("open sesame", q($2y$05$Vh5GkR0mWq3PzJt8XbN1Ee))'
_HTPASSWD = f"{USER}:$2y$05$Vh5GkR0mWq3PzJt8XbN1EeVMRmBGlelxPquaisSbm2xm3LMyl1QE.\n"
# Docker's own, and what an engine with containerd's image store pushes.
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
)


class Registry:
    """A running registry.

    Args:
        root: where it keeps its blobs; a second registry on the same folder has the same images.
        port: to listen on, 0 for any free one.
        locked: whether it asks for USER and PASSWORD.
    """

    def __init__(self, root: Path, *, port: int = 0, locked: bool = False) -> None:
        program = shutil.which("docker-registry")
        if not program:
            raise UserError(
                "docker-registry is missing", hint="run: apt-get install docker-registry"
            )
        self.locked = locked
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [program, "serve", str(_settings(root, port, locked=locked))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            line = self.wait_for("listening on")
        except UserError:
            self.kill()
            raise
        self.address = line.partition("listening on ")[2].split('"')[0]

    @property
    def url(self) -> str:
        """URL of its API."""
        return f"http://{self.address}"

    def tags(self, repository: str) -> set[str]:
        """Return the tags of a repository; none where it does not exist."""
        try:
            with self._ask("GET", f"{repository}/tags/list") as answer:
                return set(json.load(answer)["tags"] or ())
        except HTTPError as error:
            if error.code == 404:
                return set()
            raise

    def wait_for(self, text: str, *, seconds: float = 30) -> str:
        """Wait for a line in its log and return it.

        Raises:
            UserError: there was none in time, or the registry ended.
        """

        def found() -> str:
            return next((line for line in self._lines if text in line), "")

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended(), seconds)
            if not found():
                last = self._lines[-1].strip() if self._lines else "it logged nothing"
                raise UserError(f"the registry did not log {text!r}: {last}")
            return found()

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        self._process.wait()  # its output ends a moment before it can be polled as ended
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _ask(self, method: str, path: str) -> Iterator[addinfourl]:
        request = urllib.request.Request(f"{self.url}/v2/{path}", method=method)
        request.add_header("Accept", MANIFESTS)
        if self.locked:
            login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            yield answer


def layers_of(address: str, repository: str, tag: str) -> dict[str, int]:
    """Return the layers of an image in an open registry: stored bytes by digest."""
    manifest = read_manifest(address, repository, tag)
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def read_manifest(address: str, repository: str, tag: str) -> dict[str, Any]:
    """Return the manifest of an image in an open registry; of an index, its first, the image's."""
    request = urllib.request.Request(
        f"http://{address}/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFESTS}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        manifest: dict[str, Any] = json.load(answer)
    if "manifests" in manifest:
        return read_manifest(address, repository, manifest["manifests"][0]["digest"])
    return manifest


def _settings(root: Path, port: int, *, locked: bool) -> Path:
    """Write its settings file; see https://distribution.github.io/distribution/about/configuration."""
    root.mkdir(parents=True, exist_ok=True)
    settings = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "not a secret"},
    }
    if locked:
        passwords = root / "htpasswd"
        passwords.write_text(_HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "stand-in", "path": str(passwords)}}
    path = root / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@contextmanager
def registry(root: Path, *, port: int = 0, locked: bool = False) -> Iterator[Registry]:
    """Run a registry until the block ends; arguments as `Registry` takes them."""
    running = Registry(root, port=port, locked=locked)
    try:
        yield running
    finally:
        running.kill()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--locked", action="store_true", help=f"ask for {USER} / {PASSWORD}")
    options = parser.parse_args()
    with registry(options.root, port=options.port, locked=options.locked) as running:
        print(f"registry at {running.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
