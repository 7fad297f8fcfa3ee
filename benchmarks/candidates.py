"""Build commands of the candidates: this project as users run it, and `benchmarks/baseline`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.host.build.inputs import BuildInputs

BASELINE = "benchmarks/baseline"
LAST_LINES = 15


def build_ours(
    checkout: Path, variant: str, tag: str, environment: Mapping[str, str], *options: str
) -> None:
    """Run `invoke build` in a checkout, with further options."""
    invoke = [sys.executable, "-m", "invoke", "build", "--variant", variant, "--tag", tag]
    run([*invoke, *options], checkout, environment)


def build_baseline(
    inputs: BuildInputs, tag: str, environment: Mapping[str, str], *options: str
) -> None:
    """Run `docker build` of the baseline Dockerfile with our bases, mirrors and sources.

    Args:
        inputs: of our build; its checkout holds the baseline's Dockerfile, and its accelerator
            decides about xformers.
        tag: name of the image.
        environment: added to this process's own.
        options: further options of `docker build`.
    """
    folder = inputs.root / BASELINE
    known = re.findall(r"^ARG (\w+)=", (folder / "Dockerfile").read_text(), flags=re.MULTILINE)
    arguments = {name: value for name, value in inputs.arguments.items() if name in known}
    if inputs.config.build.accelerator == "cpu":
        arguments["XFORMERS"] = ""
    command = [
        *("docker", "build", f"--network={inputs.config.build.network}", f"--tag={tag}"),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *(str(folder), *options),
    ]
    run(command, inputs.root, environment)


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command and return its standard output.

    Raises:
        SystemExit: it failed; with its last lines.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-LAST_LINES:]
        raise SystemExit("\n".join([f"failed: {' '.join(command[:4])} …", *lines]))
    return done.stdout
