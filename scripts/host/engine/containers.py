"""Run containers, labelled by checkout so that `invoke clean` finds what a killed process left.

The label names machine and checkout. As long as a process that uses it lives, it shares a lock on
the checkout's folder, which the kernel drops however the process ends.
"""

import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import docker
from docker.models.containers import Container

from scripts.common.files import exclusive_lock, shared_lock
from scripts.host.config.load import ROOT

LABEL: Final = "com.github.a1111-worker.started-by"
NO_ENTRYPOINT: Final = [""]
"""Runs the command alone. Podman takes an empty list or text for the image's own entry point."""
_locks = ExitStack()  # held until the process ends


@contextmanager
def run_container(
    client: docker.DockerClient,
    image: str,
    command: Sequence[str] | None = None,
    *,
    start: bool = True,
    keep: bool = False,
    **options: Any,  # noqa: ANN401 - the SDK's own
) -> Iterator[Container]:
    """Start a container, yield it, and remove it with its volumes, also where it does not start.

    Args:
        client: the engine.
        image: reference or ID; it is not pulled.
        command: to run instead of the image's own.
        start: leave it unstarted where False.
        keep: leave the container to the user, without the checkout's label.
        options: as `docker.containers.create` takes them.

    Raises:
        docker.errors.DockerException: it cannot be created or started.
    """
    labels = {**options.pop("labels", {}), **({} if keep else session_label())}
    arguments = None if command is None else list(command)
    made: list[Container] = []

    def create() -> None:
        made.append(client.containers.create(image, arguments, labels=labels, **options))

    try:
        _finish(create)
        if start:
            made[0].start()
        yield made[0]
    except BaseException:
        keep = False
        raise
    finally:
        for container in () if keep else made:
            with suppress(docker.errors.NotFound):
                _finish(partial(container.remove, force=True, v=True))


def _finish(call: Callable[[], None]) -> None:
    """Call the engine so that no interrupt comes between a request and its answer.

    Interrupts come in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def container_output(
    client: docker.DockerClient,
    image: str,
    command: Sequence[str],
    *,
    timeout: float | None = None,
    files: bytes = b"",
    **options: Any,  # noqa: ANN401 - the SDK's own
) -> str:
    """Return what a command prints in a container of its own, by default without a network.

    Args:
        client: the engine.
        image: reference or ID.
        command: program and arguments; the image's entry point is not used unless given.
        timeout: seconds the command may take; no limit by default.
        files: a tar archive that is unpacked at the root of the container before it starts.
        options: as `docker.containers.create` takes them.

    Raises:
        docker.errors.ContainerError: the command fails; holds what it wrote to standard error.
        docker.errors.DockerException: the container does not start.
        requests.RequestException: the command takes longer than `timeout`.
    """
    options = {"entrypoint": NO_ENTRYPOINT, "network_mode": "none", **options}
    # Attached before the start, as `docker run` does: the engine's log may lack the end of what a
    # short command printed, and some log drivers cannot be read at all. The container goes first
    # at the end, which ends the stream.
    with (
        ThreadPoolExecutor(1) as reader,
        run_container(client, image, command, start=False, **options) as container,
    ):
        if files:
            container.put_archive("/", files)
        stream = container.attach(stream=True, demux=True)
        pieces = reader.submit(list, stream)
        container.start()
        code = container.wait(timeout=timeout)["StatusCode"]
        if code:
            stderr = b"".join(err for _, err in pieces.result() if err)
            raise docker.errors.ContainerError(container, code, list(command), image, stderr)
        printed = b"".join(out for out, _ in pieces.result() if out)
        return printed.decode("utf-8", "replace")


@cache
def session_label(root: Path = ROOT) -> dict[str, str]:
    """Return the label for what this process starts; from then on `block_sessions` yields False."""
    _locks.enter_context(shared_lock(root))
    return checkout_label(root)


def checkout_label(root: Path) -> dict[str, str]:
    """Return the label of a checkout; with the machine's name, for an engine may serve several."""
    return {LABEL: f"{platform.node()}:{root}"}


def block_sessions(root: Path) -> AbstractContextManager[bool]:
    """Keep processes from starting containers for a checkout until the block ends.

    Yields:
        True; False where one that does is running, or the file system has no locks.
    """
    return exclusive_lock(root, without_locks=False)
