"""Runs the image that was built here, as a user or RunPod would, until it is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig
from scripts.host.console import note, say
from scripts.host.engine.client import client, docker_errors, image_of
from scripts.host.engine.containers import run_container

PORT = "3000/tcp"
LABEL = "a1111-worker.serve"
_PAUSE = 0.5  # seconds between two looks at the container's health


def serve(
    loaded: LoadedConfig, *, image: str = "", port: int = 3000, environment: Sequence[str] = ()
) -> None:
    """Run the image, print its address when it has drawn a picture, and its log until Ctrl-C.

    Args:
        loaded: the config; it says which image, and whether it needs a GPU.
        image: another image than the one built from this checkout.
        port: loopback port; 0 takes a free one.
        environment: NAME=VALUE for the worker, or NAME to pass the value on.

    Raises:
        UserError: no such image, no GPU, a taken port, or the worker ended by itself.
    """
    reference = image or resolve(loaded).tags[0]
    with _running(loaded, reference, port, environment) as container:
        threading.Thread(target=_show_log, args=(container,), daemon=True).start()
        ended = threading.Event()
        threading.Thread(target=_await_end, args=(container, ended), daemon=True).start()
        _await_ready(container, ended)
        say(f"ready: {address(container)}/docs")
        ended.wait()
        raise _ended(container)


def address(container: Any) -> str:  # noqa: ANN401 - the SDK is untyped
    """The URL under which this machine reaches a running worker."""
    container.reload()
    return f"http://127.0.0.1:{container.ports[PORT][0]['HostPort']}"


@contextmanager
def _running(
    loaded: LoadedConfig, reference: str, port: int, environment: Sequence[str]
) -> Iterator[Any]:
    """Run the image; stop it with the config's grace period on Ctrl-C or SIGTERM, and remove it."""
    from docker.types import DeviceRequest

    gpu = loaded.config.build.accelerator == "cuda"
    engine = client()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop leaves nothing running
    try:
        image_of(engine, reference, loaded.variant)
        with (
            docker_errors(reference, message="the container does not run"),
            run_container(
                engine,
                reference,
                ports={PORT: ("127.0.0.1", port or None)},
                environment=list(environment),
                labels={LABEL: loaded.variant},
                device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpu else [],
            ) as container,
        ):
            try:
                yield container
            except KeyboardInterrupt:
                note("stopping; running jobs may end")
                container.stop(timeout=loaded.config.smoke.stop_timeout)
    except UserError as error:
        if error.code == "port-taken":
            raise UserError(
                f"port {port} is taken", hint="choose another: --port 3001", code=error.code
            ) from None
        raise
    finally:
        engine.close()


def _show_log(container: Any) -> None:  # noqa: ANN401 - the SDK is untyped
    for chunk in container.logs(stream=True, follow=True):
        note(chunk.decode("utf-8", "replace").rstrip("\n"))


def _await_end(container: Any, ended: threading.Event) -> None:  # noqa: ANN401 - the SDK is untyped
    import docker

    try:
        container.wait()
    except docker.errors.APIError:
        pass  # it was removed
    finally:
        ended.set()


def _await_ready(container: Any, ended: threading.Event) -> None:  # noqa: ANN401 - the SDK is untyped
    """Return when the worker has drawn its first picture.

    Raises:
        UserError: it ended before.
    """
    health = ["/opt/runpod/bin/python", "-m", "scripts.container", "health"]
    while not ended.wait(_PAUSE):
        container.reload()
        if container.status == "running" and container.exec_run(health).exit_code == 0:
            return
    raise _ended(container)


def _ended(container: Any) -> UserError:  # noqa: ANN401 - the SDK is untyped
    container.reload()
    code = container.attrs["State"]["ExitCode"]
    return UserError(
        f"the worker ended by itself with exit code {code}", hint="its log above says why"
    )
