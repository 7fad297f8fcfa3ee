"""A worker for a test: the real supervisor with a small stand-in for the WebUI, as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from scripts.common.webui_client import Response, WebuiClient
from scripts.container.status.state import State, read_state
from scripts.host.config.load import ROOT
from tests.support import webui

TIMEOUT = 30.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Worker:
    """`python -m scripts.container`, its folders below `tmp`, and its log."""

    def __init__(self, tmp: Path, *, python: str = sys.executable, **environment: str) -> None:
        self.dir, self.port = tmp / "worker", free_port()
        webui_dir = tmp / "webui"
        webui_dir.mkdir(exist_ok=True)
        shutil.copy(webui.__file__, webui_dir / "webui.py")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp),
            "PYTHONPATH": str(ROOT),
            "WEBUI_DIR": str(webui_dir),
            "WEBUI_PYTHON": sys.executable,
            "WEBUI_PORT": str(self.port),
            "WEBUI_HOST": "127.0.0.1",
            "WORKER_DIR": str(self.dir),
            "WORKER_USER": "nobody-here",
            "MODEL_PATH": str(tmp / "model.safetensors"),
            "PIP_CACHE_DIR": str(tmp / "pip"),
            "PREFLIGHT": "off",
            "METRICS_PORT": "0",
            "RESTART_PAUSE": "0.01",
            "STOP_TIMEOUT": "10",
            "ACCELERATOR": "cpu",
            **environment,
        }
        self.env = env
        self.metrics_port = int(env["METRICS_PORT"])
        self.log = tmp / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "scripts.container"],
                env=env,
                cwd=tmp,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def state(self) -> State:
        return read_state(self.dir)

    @property
    def log_text(self) -> str:
        return self.log.read_text()

    @property
    def seen(self) -> dict[str, Any]:
        """Arguments and environment that the WebUI was started with."""
        found: dict[str, Any] = json.loads((self.dir / "data" / "seen.json").read_text())
        return found

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds; return its value."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.01)
        raise AssertionError(f"{what} did not happen:\n{self.log_text}")

    def ready(self) -> State:
        self.until(lambda: self.state.phase == "ready" or self.process.poll() is not None, "ready")
        assert self.state.phase == "ready", self.log_text
        return self.state

    def ended(self) -> int:
        """The exit code."""
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end:\n{self.log_text}") from None

    def draw(self, **fields: object) -> Response:
        body = {"width": 64, "height": 64, **fields}
        api = WebuiClient.local("127.0.0.1", self.port)
        return api.request("POST", "/sdapi/v1/txt2img", body, timeout=TIMEOUT)

    def stop(self) -> None:
        """For fixtures: whatever happened, nothing is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
