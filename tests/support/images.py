"""Make the two base images of the Dockerfile from Debian, for machines that reach no registry.

Each is a local tag named after the content of its recipe, so a second call finds it at once.
The names end in `.invalid` (RFC 2606): an engine can find them locally or not at all.

    python -m tests.support.images      build both and print their names
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.console import note, say

RECIPE = Path(__file__).parent / "base"
REGISTRY = "standin.invalid"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# A mirror whose index is some days old is fine for a stand-in.
_ROOT = (
    *("mmdebstrap", "--variant=minbase", "--include=ca-certificates"),
    *("--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false"),
    *("bookworm", "-"),
)


def base_download() -> str:
    """Return the image that replaces alpine/git; build it if it is missing."""
    return _image("alpine-git")


def base_runtime() -> str:
    """Return the image that replaces pytorch/pytorch; build it if it is missing (minutes)."""
    return _image("pytorch")


def ca_bundle() -> Path:
    """Return the certificates that this machine trusts, for builds that download through it."""
    return Path(os.environ.get("SSL_CERT_FILE") or CA_BUNDLE)


def _image(target: str) -> str:
    tag = f"{REGISTRY}/{target}:{_digest()}"
    if not _exists(tag):
        note(f"building {tag} (once; later runs reuse it)")
        root = debian_root()
        with tempfile.TemporaryDirectory() as context:
            shutil.copytree(RECIPE, context, dirs_exist_ok=True)
            shutil.copy(ca_bundle(), Path(context) / "ca.pem")
            _run(
                *("docker", "buildx", "build", "--load", "--network=host", "--progress=plain"),
                *(f"--build-arg=ROOT={root}", f"--target={target}", f"--tag={tag}", context),
            )
    return tag


def _digest() -> str:
    """Hash the recipe and the certificates that it bakes in."""
    parts = [path.read_bytes() for path in sorted(RECIPE.iterdir())]
    parts += [ca_bundle().read_bytes(), repr(_ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def debian_root() -> str:
    """Return a minimal Debian root as a local image; make it if it is missing."""
    command = [*_ROOT, *filter(None, [os.environ.get("APT_MIRROR")])]
    tag = f"{REGISTRY}/debian:{hashlib.sha256(repr(command).encode()).hexdigest()[:12]}"
    if _exists(tag):
        return tag
    if not shutil.which("mmdebstrap"):
        raise UserError("mmdebstrap is missing", hint="run: apt-get install mmdebstrap")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as bootstrap:
        # docker imports any stream, also a broken one: it is tagged only after success.
        image = subprocess.run(
            ["docker", "import", "-"], stdin=bootstrap.stdout, stdout=subprocess.PIPE, text=True
        )
    if bootstrap.returncode or image.returncode:
        raise UserError(
            "the Debian root could not be made", hint="read the output of mmdebstrap above"
        )
    _run("docker", "tag", image.stdout.strip(), tag)
    return tag


def _exists(tag: str) -> bool:
    inspect = ["docker", "image", "inspect", tag]
    return subprocess.run(inspect, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise UserError(f"`{' '.join(command[:3])}` failed", hint="read its output above")


def main() -> None:
    """Build both and print their names."""
    say(base_download())
    say(base_runtime())


if __name__ == "__main__":
    main()
