"""Run the container under test as a pod does, wait until it is ready, and measure its memory."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from scripts.common.checks.check import CommandError
from scripts.common.checks.smoke_report import MemorySample
from scripts.common.checks.worker_under_test import wait_until_ready
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import refine_code
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import NO_ENTRYPOINT, run_container
from scripts.host.engine.remote_port import forwarded_port

if TYPE_CHECKING:
    import docker
    from docker.types import DeviceRequest

PORT: Final = "3000/tcp"
# Memory as `docker stats` counts it: without file pages that the kernel may drop. The files are
# those of cgroup v2, then v1: https://docs.kernel.org/admin-guide/cgroup-v2.html
_READ_MEMORY: Final = (
    "cd /sys/fs/cgroup; cat memory.current 2>&- || cat memory/memory.usage_in_bytes;"
    " cat memory.stat 2>&- || cat memory/memory.stat"
)
_MEMORY: Final = re.compile(r"(?P<usage>\d+)\n(?s:.*?\n)?inactive_file (?P<inactive>\d+)\n")


def device_requests(gpu: str) -> list[DeviceRequest]:
    """Return the engine's device request for a GPU's index or UUID, or `all`; none when empty."""
    from docker.types import DeviceRequest

    if not gpu:
        return []
    if gpu == "all":
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=[gpu], capabilities=[["gpu"]])]


def require_gpu(client: docker.DockerClient, image_id: str, gpu: str, variant: str) -> None:
    """Check that the engine can give a GPU to a container.

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
        run_container(
            client, image_id, ["true"], entrypoint=NO_ENTRYPOINT, device_requests=requests
        ),
    ):
        pass


@dataclass
class WorkerContainer:
    """A running container of the image under test.

    Args:
        container: object of the Docker SDK.
        started: time of its start, as `time.monotonic` counts.
        phases: seconds from its start to each phase, once it is ready.
        samples: its memory over time, oldest first.
        port: of this machine, where it is not the engine's.
    """

    container: Any
    started: float = field(default_factory=time.monotonic)
    phases: dict[str, float] = field(default_factory=dict)
    samples: list[MemorySample] = field(default_factory=list)
    port: int = 0

    @property
    def log(self) -> str:
        """Return all that the container has printed."""
        return str(self.container.logs().decode("utf-8", "replace"))

    @property
    def url(self) -> str:
        """Return the address of its API on this machine.

        Raises:
            UserError: it has ended.
        """
        port = _host_port(self.container)
        if not port:
            raise UserError("the container has ended", code="webui-died")
        return f"http://127.0.0.1:{self.port or port}"

    def run(self, *command: str, user: str = "") -> str:
        """Run a command in the container and return what it prints.

        Raises:
            CommandError: its exit code is not 0.
        """
        code, output = self.container.exec_run(list(command), user=user)
        text = str(output.decode("utf-8", "replace"))
        if code:
            raise CommandError(text, code=refine_code("", text))
        return text.strip()

    def wait_until_ready(self, seconds: float) -> None:
        """Follow the log until the worker has drawn its first image.

        Raises:
            UserError: it failed, ended, or took too long.
        """
        self.phases = wait_until_ready(self._follow(seconds), seconds)
        self.sample_memory()

    def _follow(self, seconds: float) -> Iterator[str | None]:
        """Yield the lines of the log for so long, and None when it has ended."""
        lines: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=_follow_log, args=(self.container, lines), daemon=True).start()
        deadline = time.monotonic() + seconds
        with suppress(Empty):
            while (left := deadline - time.monotonic()) > 0:
                yield lines.get(timeout=left)

    def stop(self, seconds: float) -> None:
        """Stop the container; it is killed when it has not ended after that time."""
        self.sample_memory()
        self.container.stop(timeout=int(seconds))

    def sample_memory(self) -> None:
        """Take one sample of memory now, from the container's own cgroup.

        The engine's statistics come once a second, later on a busy machine, and not at all from
        some engines.
        """
        from docker.errors import APIError

        with suppress(APIError):  # the container has ended
            output = self.container.exec_run(["sh", "-c", _READ_MEMORY]).output.decode()
            if found := _MEMORY.match(output):
                self._add_sample(int(found["usage"]) - int(found["inactive"]))

    def follow_memory(self) -> None:
        """Take a sample of memory about every second until the container ends."""
        for stats in self.container.stats(stream=True, decode=True):
            memory = stats.get("memory_stats", {})
            if "usage" not in memory:
                return  # the container has ended
            self._add_sample(memory["usage"] - memory.get("stats", {}).get("inactive_file", 0))

    def _add_sample(self, memory: int) -> None:
        seconds = round(time.monotonic() - self.started, 1)
        self.samples.append(MemorySample(seconds=seconds, memory=memory))


@contextmanager
def running_worker(
    client: docker.DockerClient,
    image_id: str,
    gpu: str,
    *,
    environment: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
    volumes: Mapping[str, Mapping[str, str]] | None = None,
    keep: bool = False,
) -> Iterator[WorkerContainer]:
    """Run an image as a pod does, with its port on loopback.

    Args:
        client: the engine.
        image_id: the image.
        gpu: index, UUID or `all`; empty for none.
        environment: of the worker.
        settings: options of the WebUI over those of the image.
        volumes: mounts, as the Docker SDK takes them.
        keep: leave the container to the user.
    """
    with run_container(
        client,
        image_id,
        keep=keep,
        environment={
            **environment,
            **({"WEBUI_SETTINGS": json.dumps(settings)} if settings else {}),
        },
        volumes=volumes or {},
        ports={PORT: ("127.0.0.1", None)},
        device_requests=device_requests(gpu),
    ) as container:
        worker = WorkerContainer(container)
        worker.sample_memory()
        threading.Thread(target=worker.follow_memory, daemon=True).start()
        with forwarded_port(_host_port(container)) as worker.port:
            yield worker


def _host_port(container: Any) -> int:
    """Return the port of the engine's machine that leads to the API; 0 once it has ended."""
    container.reload()
    ports = container.ports.get(PORT)
    return int(ports[0]["HostPort"]) if ports else 0


def _follow_log(container: Any, lines: SimpleQueue[str | None]) -> None:
    """Put each line of a container's log into a queue, and None when it has ended."""
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            lines.put(line.decode("utf-8", "replace"))
    lines.put(None)
