"""Starts containers, and tells whose they are, so that what a killed process left can be removed.

A label names machine and checkout. As long as a process that uses it lives, it shares a lock on the
checkout's folder, which the kernel drops however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scripts.host.config.load import ROOT

if TYPE_CHECKING:
    import docker

LABEL: Final = "com.github.a1111-worker.started-by"


def started_by(root: Path = ROOT) -> dict[str, str]:
    """The label for what this process starts; from now on until its end it counts as running."""
    _share_lock(root)
    return label_of(root)


def label_of(root: Path) -> dict[str, str]:
    """The label of a checkout; with the machine's name, for an engine may serve several."""
    return {LABEL: f"{platform.node()}:{root}"}


def output(
    client: docker.DockerClient,
    image: str,
    words: Sequence[str],
    **options: Any,  # noqa: ANN401 - the SDK's own
) -> bytes:
    """What a command prints in a container of its own, which has no network and does not stay.

    The SDK's `containers.run` leaves a container behind that does not start.

    Raises:
        docker.errors.DockerException: it does not start, or the command fails.
    """
    import docker

    container = client.containers.create(
        image, list(words), entrypoint="", network_mode="none", labels=started_by(), **options
    )
    try:
        container.start()
        code = container.wait()["StatusCode"]
        if code:
            said = container.logs(stdout=False)
            raise docker.errors.ContainerError(container, code, words, image, said)
        told: bytes = container.logs(stderr=False)
        return told
    finally:
        container.remove(force=True, v=True)


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Whether no process that starts containers runs in a checkout; inside, none begins to."""
    folder = os.open(root, os.O_RDONLY)
    try:
        yield _locked(folder)
    finally:
        os.close(folder)


@cache
def _share_lock(root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)  # stays open until the process ends
    with suppress(OSError):  # a file system without locks: then nobody is ever `alone`
        fcntl.flock(folder, fcntl.LOCK_SH)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
