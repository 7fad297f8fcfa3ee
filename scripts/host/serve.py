"""Run the image that was built here, as a user or RunPod would, until it is interrupted."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from docker.models.containers import Container
from docker.types import DeviceRequest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import BuildInputs
from scripts.host.console import note, say
from scripts.host.engine.client import client, docker_errors, get_image
from scripts.host.engine.containers import run_container
from scripts.host.engine.remote_port import forwarded_port

PORT = "3000/tcp"
LABEL = "a1111-worker.serve"
_HEALTH = ["/opt/runpod/bin/python", "-m", "scripts.container", "health"]
_POLL = 0.5  # seconds between two looks at the container


def serve(
    inputs: BuildInputs, *, image: str = "", port: int = 3000, environment: Sequence[str] = ()
) -> None:
    """Run the image, print its address when it has drawn a picture, and its log until Ctrl-C.

    On Ctrl-C or SIGTERM it is stopped with the config's grace period, and removed.

    Args:
        inputs: of the build; they name the image, and say whether it needs a GPU.
        image: another image than the one built from this checkout.
        port: loopback port; 0 takes a free one.
        environment: NAME=VALUE for the worker, or NAME to pass the value on.

    Raises:
        UserError: no such image, no GPU, a taken port, or the worker ended by itself.
    """
    engine, reference = client(), image or inputs.tags[0]
    gpu = inputs.config.build.accelerator == "cuda"
    get_image(engine, reference, inputs.variant)
    try:
        with (
            docker_errors(reference, message="the container does not run"),
            run_container(
                engine,
                reference,
                ports={PORT: ("127.0.0.1", port or None)},
                environment=[f"HF_ENDPOINT={inputs.config.mirrors.huggingface}", *environment],
                labels={LABEL: inputs.variant},
                device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpu else [],
            ) as container,
            ExitStack() as until_end,
        ):
            try:
                _follow(container, until_end)
            except KeyboardInterrupt:
                note("stopping; running jobs may end")
                container.stop(timeout=inputs.config.smoke.stop_timeout)
    except UserError as error:
        if error.code != "port-taken":
            raise
        hint = "choose another: --port 3001"
        raise UserError(f"port {port} is taken", hint=hint, code=error.code) from None


def _follow(container: Container, until_end: ExitStack) -> None:
    """Show a worker's log, and its address once it is ready.

    Args:
        container: of the worker.
        until_end: holds what leads to its port.

    Raises:
        UserError: it ended by itself.
    """
    threading.Thread(target=_show_log, args=(container,), daemon=True).start()
    is_ready = False
    while container.status != "exited":
        if not is_ready and container.status == "running":
            is_ready = container.exec_run(_HEALTH).exit_code == 0
            if is_ready:
                there = int(container.ports[PORT][0]["HostPort"])
                port = until_end.enter_context(forwarded_port(there))
                say(f"ready: http://127.0.0.1:{port}/docs")
        time.sleep(_POLL)
        container.reload()
    code = container.attrs["State"]["ExitCode"]
    raise UserError(f"the worker ended by itself with exit code {code}", hint="read its log above")


def _show_log(container: Container) -> None:
    for chunk in container.logs(stream=True, follow=True):
        note(chunk.decode("utf-8", "replace").rstrip("\n"))
