"""Start a Docker engine beside the machine's own, with its own images and caches."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.diagnostics.error import UserError

_SECONDS = 60


@contextmanager
def engine(folder: Path, *, containerd_store: bool = False) -> Iterator[str]:
    """Run an engine that keeps everything below `folder`, until the block ends; its address.

    Args:
        folder: with a short path: a socket's path may have 107 characters.
        containerd_store: keep images as containerd does, which cache export needs.

    Raises:
        UserError: this is not root, or the engine does not start.
    """
    if os.geteuid() != 0:
        raise UserError("starting a second engine needs root")
    settings = folder / "daemon.json"
    settings.write_text(
        json.dumps(
            {
                "features": {"containerd-snapshotter": containerd_store},
                "builder": {"gc": {"enabled": True, "defaultKeepStorage": "100GB"}},
                # Not `"bridge": "none"`: an engine started so deletes docker0, the first one's too.
                "fixed-cidr": _addresses_left(),
                **dict.fromkeys(("iptables", "ip6tables", "ip-forward", "ip-masq"), False),
            }
        )
    )
    address = f"unix://{folder}/sock"
    command = ["dockerd", f"--config-file={settings}", f"--host={address}"]
    command += [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as run,
    ):
        try:
            _wait_for(address, run, folder / "log")
            yield address
        finally:
            run.terminate()
            run.wait(_SECONDS)


def _addresses_left() -> str:
    """Return the half of the bridge's addresses that this machine's own engine gives out last."""
    inspect = ("docker", "network", "inspect", "bridge", "--format")
    command = [*inspect, "{{(index .IPAM.Config 0).Subnet}}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    _, upper = ipaddress.ip_network(asked.stdout.strip()).subnets()
    return str(upper)


def _wait_for(address: str, run: subprocess.Popen[bytes], log: Path) -> None:
    ask = ["docker", "--host", address, "info"]
    deadline = time.monotonic() + _SECONDS
    while subprocess.run(ask, capture_output=True, check=False).returncode:
        if run.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").splitlines()[-1:]
            raise UserError(
                f"the second engine does not answer: {''.join(last)}", location=str(log)
            )
        time.sleep(0.2)


def copy_image(reference: str, address: str) -> None:
    """Copy an image from this machine's engine to another one."""
    with subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            ["docker", "--host", address, "load", "--quiet"],
            stdin=saved.stdout,
            check=True,
            capture_output=True,
        )
