"""Containers as a benchmark needs them: started, asked, weighed and removed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.common.webui_client import WebuiClient
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load

PICTURE = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1, "seed": 1}
PATIENCE = 300.0  # seconds


@dataclass(frozen=True)
class Started:
    """How one start went.

    Args:
        answers: seconds until the API answered.
        picture: seconds until the first picture was there.
        memory: bytes that nobody else can have while it idles afterwards.
    """

    answers: float
    picture: float
    memory: int


def image_of(variant: str, name: str | None) -> str:
    """The image to measure: NAME:VARIANT, or the one built from this checkout.

    Raises:
        SystemExit: it is not in the local engine.
    """
    loaded = load(variant)
    image = f"{name}:{variant}" if name else resolve(loaded).tags[0]
    look = ["docker", "image", "inspect", image]
    if subprocess.run(look, capture_output=True, check=False).returncode:
        raise SystemExit(f"error: {image} is not here - run: invoke build --variant {variant}")
    return image


def copied_out(image: str, path: str, folder: str) -> None:
    """Copy a path of an image into a folder."""
    make = subprocess.run(["docker", "create", image], capture_output=True, text=True, check=True)
    name = make.stdout.strip()
    try:
        subprocess.run(["docker", "cp", f"{name}:{path}", folder], capture_output=True, check=True)
    finally:
        subprocess.run(["docker", "rm", name], capture_output=True, check=True)


@contextmanager
def running(*words: str) -> Iterator[str]:
    """A container on this machine's network, removed afterwards; its id."""
    base = ["docker", "run", "--detach", "--network=host"]
    started = subprocess.run([*base, *words], capture_output=True, text=True, check=True)
    name = started.stdout.strip()
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)


def start(words: Sequence[str], port: int, *, settle: float = 2.0) -> Started:
    """Start a container, have one picture drawn, let it idle, weigh it.

    Args:
        words: of `docker run`, the image among them.
        port: where it serves.
        settle: seconds of idling before it is weighed.
    """
    began = time.monotonic()
    with running(*words) as name:
        api = WebuiClient.local("127.0.0.1", port)
        wait_for(api)
        answers = time.monotonic() - began
        drawn = api.request("POST", "/sdapi/v1/txt2img", PICTURE, timeout=PATIENCE)
        picture = time.monotonic() - began
        if drawn.status != 200 or not drawn.json()["images"]:
            raise SystemExit(f"{words[-1]} answered {drawn.status} instead of a picture")
        time.sleep(settle)
        return Started(answers, picture, memory_of(name))


def seconds_to_answer(words: Sequence[str], port: int) -> float:
    """Start a container; the seconds until its API answers."""
    began = time.monotonic()
    with running(*words):
        wait_for(WebuiClient.local("127.0.0.1", port))
        return time.monotonic() - began


def wait_for(api: WebuiClient) -> None:
    """Return when the API answers."""
    deadline = time.monotonic() + PATIENCE
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
    """Bytes of a container's own memory: anonymous and shared, without the page cache."""
    ask = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
    pid = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    stat = dict(
        line.split() for line in memory_stat(Path(f"/proc/{pid}/cgroup")).read_text().splitlines()
    )
    # Version 2 of cgroups says `anon`, version 1 `total_rss`.
    keys = ("anon", "shmem") if "anon" in stat else ("total_rss", "total_shmem")
    return sum(int(stat[key]) for key in keys)


def memory_stat(membership: Path) -> Path:
    """The file with a process's memory figures, by its /proc/PID/cgroup."""
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
