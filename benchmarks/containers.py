"""Start containers, wait for their API, measure their memory, and remove them."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.common.webui_client import WebuiClient
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load

JOB = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1, "seed": 1}
READY_TIMEOUT = 300.0  # seconds


@dataclass(frozen=True)
class Start:
    """One start of a container.

    Args:
        answers: seconds until the API answered.
        image: seconds until the first image was generated.
        memory: bytes of memory that it alone holds while it idles afterwards.
    """

    answers: float
    image: float
    memory: int


def image_of(variant: str, name: str | None) -> str:
    """Return the image to measure: NAME:VARIANT, or the one built from this checkout.

    Raises:
        SystemExit: it is not in the local engine.
    """
    image = f"{name}:{variant}" if name else resolve(load(variant)).tags[0]
    look = ["docker", "image", "inspect", image]
    if subprocess.run(look, capture_output=True, check=False).returncode:
        raise SystemExit(f"error: {image} is not here - run: invoke build --variant {variant}")
    return image


def copy_out(image: str, path: str, folder: str) -> None:
    """Copy a path of an image into a folder."""
    make = subprocess.run(["docker", "create", image], capture_output=True, text=True, check=True)
    name = make.stdout.strip()
    try:
        subprocess.run(["docker", "cp", f"{name}:{path}", folder], capture_output=True, check=True)
    finally:
        subprocess.run(["docker", "rm", name], capture_output=True, check=True)


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run a container on this machine's network until the block ends; its name.

    Args:
        arguments: of `docker run`, the image among them.
    """
    name = f"bench-{secrets.token_hex(6)}"  # known even if `docker run` is interrupted
    base = ["docker", "run", "--detach", "--network=host", f"--name={name}"]
    try:
        subprocess.run([*base, *arguments], capture_output=True, check=True)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)


def start(arguments: Sequence[str], port: int, *, idle: float = 2.0) -> Start:
    """Start a container, generate one image, let it idle, measure its memory.

    Args:
        arguments: of `docker run`, the image among them.
        port: where it serves.
        idle: seconds of idling before its memory is measured.
    """
    began = time.monotonic()
    with running(*arguments) as name:
        api = WebuiClient.local("127.0.0.1", port)
        wait_for(api)
        answers = time.monotonic() - began
        response = api.request("POST", "/sdapi/v1/txt2img", JOB, timeout=READY_TIMEOUT)
        image = time.monotonic() - began
        if response.status != 200 or not response.json()["images"]:
            raise SystemExit(f"{arguments[-1]} answered {response.status} instead of an image")
        time.sleep(idle)
        return Start(answers, image, memory_of(name))


def seconds_to_answer(arguments: Sequence[str], port: int) -> float:
    """Start a container; return the seconds until its API answers."""
    began = time.monotonic()
    with running(*arguments):
        wait_for(WebuiClient.local("127.0.0.1", port))
        return time.monotonic() - began


def wait_for(api: WebuiClient) -> None:
    """Return when the API answers.

    Raises:
        SystemExit: it did not in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            api.request("GET", "/sdapi/v1/sd-models")
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit("the API does not answer") from None
            time.sleep(0.005)
        else:
            return


def memory_of(name: str) -> int:
    """Return a container's anonymous and shared memory in bytes, without the page cache."""
    inspect = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
    pid = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
    stat = dict(
        line.split() for line in memory_stat(Path(f"/proc/{pid}/cgroup")).read_text().splitlines()
    )
    # Version 2 of cgroups has `anon`, version 1 `total_rss`.
    keys = ("anon", "shmem") if "anon" in stat else ("total_rss", "total_shmem")
    return sum(int(stat[key]) for key in keys)


def memory_stat(membership: Path) -> Path:
    """Find the `memory.stat` of a process by its /proc/PID/cgroup.

    Raises:
        SystemExit: its cgroup has none.
    """
    root = Path("/sys/fs/cgroup")
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified = root / path.lstrip("/") / "memory.stat"
            if unified.exists():
                return unified
        elif "memory" in controllers.split(","):
            return root / "memory" / path.lstrip("/") / "memory.stat"
    raise SystemExit(f"no memory figures for {membership}")
