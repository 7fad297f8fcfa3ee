"""Run `invoke` as a user does, and containers for as long as a test needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from scripts.host.engine.containers import (
    NO_ENTRYPOINT,
    container_output,
    run_container,
    session_label,
)

INVOKE = (sys.executable, "-m", "invoke")


def invoke(
    *arguments: str, config: Path | None = None, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `invoke ARGUMENTS` in a checkout.

    Args:
        arguments: of invoke.
        config: file for IMAGE_CONFIG; unset by default.
        root: the checkout.
        environment: added to this process's own.
    """
    env = {**os.environ, **environment}
    env.pop("IMAGE_CONFIG", None)
    if config:
        env["IMAGE_CONFIG"] = str(config)
    return subprocess.run(
        [*INVOKE, *arguments],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def error_line(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one error of a failed run with its hint, and assert that they come last."""
    assert answer.returncode == 1, answer.stdout
    assert "Traceback" not in answer.stderr
    lines = answer.stderr.splitlines()
    [first] = [number for number, line in enumerate(lines) if line.startswith("error:")]
    assert [line.partition(":")[0] for line in lines[first + 1 :]] in ([], ["hint"])
    return "\n".join(lines[first:])


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy the files that git tracks, as they are in the working tree."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@contextmanager
def container(image: str, **options: Any) -> Iterator[Any]:
    """Run a container until the block ends; options as `run_container` takes them."""
    engine = client()
    try:
        with run_container(engine, image, **options) as running:
            yield running
    finally:
        engine.close()


def build_image(tag: str, dockerfile: str) -> None:
    """Build a small image whose RUN steps have no network."""
    command = ["docker", "buildx", "build", "--quiet", "--load", "--network=none", "--tag", tag]
    command += [f"--label={name}={value}" for name, value in session_label().items()]
    # BuildKit adds a layer in a second; the SDK's old builder takes ten on a worker's image.
    subprocess.run(
        [*command, "-"], input=dockerfile, text=True, check=True, capture_output=True, timeout=120
    )


def output(image: str, *command: str, entrypoint: str = "") -> str:
    """Return what a command prints in a new container of an image."""
    engine = client()
    try:
        return container_output(engine, image, command, entrypoint=entrypoint or NO_ENTRYPOINT)
    finally:
        engine.close()


def eventually(check: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Call a function until it returns something true; return that.

    Raises:
        AssertionError: it returned nothing true in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = check()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s")
