"""Who builds: this project as its users do, and the usual way (`benchmarks/usual`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.host.build.inputs import resolve
from scripts.host.certificates import FILE
from scripts.host.config.load import ROOT, LoadedConfig

USUAL = "benchmarks/usual"
LAST_LINES = 15


def build_ours(
    checkout: Path, variant: str, tag: str, environment: Mapping[str, str], *words: str
) -> None:
    """`invoke build` in a checkout; further words are its own."""
    invoke = [sys.executable, "-m", "invoke", "build", "--variant", variant, "--tag", tag, *words]
    run(invoke, checkout, environment)


def build_usual(
    loaded: LoadedConfig, tag: str, environment: Mapping[str, str], *words: str, root: Path = ROOT
) -> None:
    """`docker build` of the usual Dockerfile with the config's bases, mirrors and sources.

    Args:
        loaded: the config; its accelerator decides about xformers.
        tag: name of the image.
        environment: added to this process's own.
        words: further words of `docker build`.
        root: the checkout that holds the usual Dockerfile.
    """
    run([*usual_command(loaded, tag, root), *words], root, environment)


def usual_command(loaded: LoadedConfig, tag: str, root: Path = ROOT) -> list[str]:
    """The command line of `build_usual`."""
    folder = root / USUAL
    known = re.findall(r"^ARG (\w+)=", (folder / "Dockerfile").read_text(), flags=re.MULTILINE)
    arguments = {k: v for k, v in resolve(loaded).arguments.items() if k in known}
    if loaded.config.build.accelerator == "cpu":
        arguments["XFORMERS"] = ""
    return [
        *("docker", "build", f"--network={loaded.config.build.network}", f"--tag={tag}"),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        str(folder),
    ]


def plain_command(loaded: LoadedConfig, tag: str, certificates: Path | None) -> list[str]:
    """`docker build` of our Dockerfile with nothing but build arguments and the CA bundle."""
    trusted = [
        f"--build-context=certificates={certificates}",
        f"--secret=id=ca_bundle,src={certificates}/{FILE}",
    ]
    return [
        *("docker", "build", "--load", f"--network={loaded.config.build.network}"),
        *(f"--build-arg={name}={value}" for name, value in resolve(loaded).arguments.items()),
        *(trusted if certificates else []),
        f"--tag={tag}",
        str(loaded.root),
    ]


def run(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command; its standard output, or an end with its last lines."""
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-LAST_LINES:]
        raise SystemExit("\n".join([f"failed: {' '.join(words[:4])} …", *lines]))
    return done.stdout
