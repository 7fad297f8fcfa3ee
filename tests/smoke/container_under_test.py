"""The container under test: started as on a pod, watched until it is ready, measured meanwhile."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from scripts.common.checks.report import Usage
from scripts.common.diagnostics.error import UserError
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import run_container

if TYPE_CHECKING:
    import docker

PORT: Final = "3000/tcp"
_READY: Final = re.compile(r" event=ready (.*)")
_PHASE: Final = re.compile(r"(\w+)_after=([\d.]+)")
# A worker that heals itself is a comfort in production; an image that needs it is not shipped.
_BAD: Final = re.compile(
    r" event=(?:\w+-unusable|webui-died|gave-up|refused|no-models|start-failed) (.*)"
)


def device_requests(gpu: str) -> list[Any]:
    """The engine's device request for a GPU index, or all; none for an empty word."""
    from docker.types import DeviceRequest

    if not gpu:
        return []
    if gpu == "all":
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=[gpu], capabilities=[["gpu"]])]


def require_gpu(client: docker.DockerClient, image_id: str, gpu: str, variant: str) -> None:
    """See that the engine can give a GPU to a container.

    Raises:
        UserError: it cannot, with code `gpu-not-visible`.
    """
    requests = device_requests(gpu)
    with (
        docker_errors(
            message="the engine has no GPU to give",
            hint="run this where the NVIDIA driver and container toolkit are, or without a GPU:"
            f" nox -s smoke -- --variant {variant}",
            code="gpu-not-visible",
        ),
        run_container(client, image_id, ["true"], entrypoint="", device_requests=requests),
    ):
        pass


@dataclass
class Worker:
    """One running container.

    Args:
        container: as the SDK knows it.
        phases: seconds from start to each phase, once it is ready.
        samples: its memory over time, about one a second.
    """

    container: Any
    phases: dict[str, float] = field(default_factory=dict)
    samples: list[Usage] = field(default_factory=list)

    @property
    def log(self) -> str:
        """All that it has written."""
        return str(self.container.logs().decode("utf-8", "replace"))

    @property
    def url(self) -> str:
        """Where its API is reached from this machine.

        Raises:
            UserError: it has ended.
        """
        self.container.reload()
        ports = self.container.ports.get(PORT)
        if not ports:
            raise UserError("the container has ended", code="webui-died")
        return f"http://127.0.0.1:{ports[0]['HostPort']}"

    def wait_until_ready(self, seconds: float) -> None:
        """Follow the log until the worker says that it has drawn.

        Raises:
            UserError: it failed once, ended, or took too long.
        """
        lines: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=_follow, args=(self.container, lines), daemon=True).start()
        deadline = time.monotonic() + seconds
        reason, code = f"not within {seconds:.0f} s", "not-ready"
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = lines.get(timeout=left)
            except Empty:
                break
            if line is None:
                reason = "the container has ended"
                break
            if found := _READY.search(line):
                self.phases = {name: float(value) for name, value in _PHASE.findall(found[1])}
                return
            if found := _BAD.search(line):
                reason = _told(found[1])
                code = "webui-died" if " event=webui-died " in line else code
                break
        raise UserError(f"the worker is not ready: {reason}", code=code)

    def measure(self) -> None:
        """Note memory until the container ends; blocks, so it wants a thread of its own."""
        began = time.monotonic()
        for told in self.container.stats(stream=True, decode=True):
            memory = told.get("memory_stats", {})
            if "usage" not in memory:
                return  # the container has ended
            # What `docker stats` shows: file pages that the kernel may drop are not counted.
            used = memory["usage"] - memory.get("stats", {}).get("inactive_file", 0)
            seconds = round(time.monotonic() - began, 1)
            self.samples.append(Usage(seconds=seconds, memory=used))


@contextmanager
def running_worker(
    client: docker.DockerClient, image_id: str, gpu: str, *, keep: bool = False
) -> Iterator[Worker]:
    """Run an image as a pod does, with its port on loopback; `keep` leaves it to the user."""
    with run_container(
        client,
        image_id,
        keep=keep,
        ports={PORT: ("127.0.0.1", None)},
        device_requests=device_requests(gpu),
    ) as container:
        worker = Worker(container)
        threading.Thread(target=worker.measure, daemon=True).start()
        yield worker


def _told(fields: str) -> str:
    """The reason that a log line gives, or all its fields where it gives none; at most one line."""
    found = re.search(r'\breason=("(?:[^"\\]|\\.)*"|\S+)', fields)
    return (found[1].strip('"') if found else fields)[:200]


def _follow(container: Any, lines: SimpleQueue[str | None]) -> None:
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            lines.put(line.decode("utf-8", "replace"))
    lines.put(None)
