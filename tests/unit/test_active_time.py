"""Deadlines of a process that is frozen meanwhile: stopped and continued, as FlashBoot does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from scripts.common.active_time import active_time, call_later, wait_for
from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.run import run_program
from scripts.common.webui_client import WebuiClient
from scripts.host.config.load import ROOT
from tests.support.serving import Server, running

FROZEN = 3.0  # seconds, longer than every deadline of the programs below
THAWED = threading.Event()


def run_frozen(code: str, *arguments: str, **environment: str) -> str:
    """Run a program, freeze it once it has printed a line, and return the rest of its output."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.2)
        THAWED.clear()
        process.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN)
        process.send_signal(signal.SIGCONT)
        THAWED.set()
        return process.stdout.read().strip()


def test_active_time_runs_as_the_clock_does() -> None:
    began, active = time.monotonic(), active_time()
    time.sleep(0.5)
    assert abs((active_time() - active) - (time.monotonic() - began)) < 0.25


def test_calls_come_late_but_not_early_and_can_be_cancelled() -> None:
    called: list[float] = []
    began = active_time()
    call_later(0.3, lambda: called.append(active_time() - began))
    cancelled = call_later(0.1, lambda: called.append(0.0))
    cancelled.cancel()
    assert not wait_for(threading.Event().wait, began + 1)
    assert called[0] >= 0.3
    assert (len(called), cancelled.is_due) == (1, False)


WAITS = """
import threading, time
from scripts.common.active_time import active_time, wait_for
began, clock = active_time(), time.monotonic()
print("ready", flush=True)
happened = wait_for(threading.Event().wait, began + 2.0)
print(happened, active_time() - began < 3.0, time.monotonic() - clock > 4.0)
"""


def test_frozen_time_does_not_count() -> None:
    assert run_frozen(WAITS) == "False True True"


ASKS = """
import sys
from scripts.common.webui_client import WebuiClient
print("ready", flush=True)
print(WebuiClient(sys.argv[1]).request("GET", "/", timeout=2.5).body)
"""


class Slow(BaseHTTPRequestHandler):
    """Answers after the client was frozen; byte after byte without an end at `/endless`."""

    def do_GET(self) -> None:
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                return
        THAWED.wait(60)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"drawn")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_request_outlives_a_freeze_longer_than_its_timeout() -> None:
    with running(Server(("127.0.0.1", 0), Slow)) as server:
        assert run_frozen(ASKS, server.url) == "b'drawn'"


FETCHES = """
import sys
from scripts.common.fetch import public_address
from scripts.container.serverless.request.image_download import fetch_image
public_address.is_public = lambda address: True
print("ready", flush=True)
print(fetch_image(sys.argv[1], 2.5))
"""


def test_an_image_is_fetched_although_its_connection_ends_in_a_freeze() -> None:
    """The timeout of its socket passes meanwhile."""
    with running(Server(("127.0.0.1", 0), Slow)) as server:
        assert run_frozen(FETCHES, server.url) == "b'drawn'"


DOWNLOADS = """
import sys, tempfile
from pathlib import Path
from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy
from scripts.common.fetch.transfer import fetch_verified
dest = Path(tempfile.mkdtemp(), "model.txt")
print("ready", flush=True)
policy = RetryPolicy(stall_timeout=2.0)
print(fetch_verified(ArtifactSpec(sys.argv[1], dest.name), dest, policy=policy).state)
"""


def test_a_download_is_tried_again_after_a_freeze(tmp_path: Path) -> None:
    with running(Server(("127.0.0.1", 0), Slow)) as server:
        assert run_frozen(DOWNLOADS, server.url, TMPDIR=str(tmp_path)) == "fetched"


@pytest.mark.parametrize("path", ["/", "/endless"])
def test_a_request_still_has_a_timeout(path: str) -> None:
    THAWED.clear()
    with running(Server(("127.0.0.1", 0), Slow)) as server:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            WebuiClient(server.url).request("GET", path, timeout=0.5)
        assert 0.4 < time.monotonic() - began < 3


def test_a_server_that_never_answers_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TimeoutError):
            WebuiClient(url).request("GET", "/", timeout=0.3)


def test_work_and_programs_have_their_time() -> None:
    ended = threading.Event()
    work = {"quick": lambda: 1, "slow": lambda: int(ended.wait(10))}
    assert dict(run_concurrently(work, 2, timeout=0.3)) == {"quick": 1}
    ended.set()
    assert run_program(["cat"], input="text", timeout=5).stdout == "text"
    long = "x" * 300_000
    assert run_program(["cat"], input=long, timeout=20).stdout == long
    with pytest.raises(UserError, match=r"did not finish within 0\.3 s"):
        run_program(["sleep", "20"], timeout=0.3)
