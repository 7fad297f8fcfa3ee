"""The image as a serverless worker: the real SDK takes jobs from a stand-in for RunPod."""

from __future__ import annotations

import base64
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.images import decode_base64, decode_png
from tests.support import runpod
from tests.support.running import container, eventually
from tests.support.safetensors import write_safetensors
from tests.support.scripted_webui import IMAGE
from tests.support.worker import free_port

START = 240.0
HANDLER = "pgrep -f [c]ontainer.handler$"
SMALL = {"width": 64, "height": 64, "steps": 1}
LIGHT = {"STANDIN_TORCH": "0"}  # each start of the WebUI is some seconds quicker


@dataclass(frozen=True)
class Worker:
    """A running worker and the platform that it takes jobs from."""

    box: Any
    platform: runpod.Platform

    def do(self, **given: Any) -> Any:
        return self.platform.do(given, timeout=START)

    def log(self) -> str:
        return str(self.box.logs().decode())

    def pids(self, command: str) -> list[int]:
        return [int(pid) for pid in self.box.exec_run(command).output.split()]

    def resident(self) -> int:
        """Bytes of memory of all processes together."""
        sizes = self.box.exec_run("ps -eo rss=").output.split()
        return sum(int(size) for size in sizes) * 1024


@contextmanager
def serverless(image: str, **environment: str) -> Iterator[Worker]:
    """A worker on this machine's own network, so that it reaches the stand-in on loopback."""
    with runpod.running() as platform:
        variables = {
            **platform.environment(),
            "WEBUI_PORT": str(free_port()),
            "METRICS_PORT": "0",
            "PREFLIGHT": "off",
            "RESTART_PAUSE": "0.1",
            **environment,
        }
        with container(image, network_mode="host", environment=variables) as box:
            yield Worker(box, platform)


@pytest.fixture(scope="module")
def worker(cpu_image: str) -> Iterator[Worker]:
    with serverless(cpu_image) as running:
        yield running


def size(result: Any) -> tuple[int, int]:
    picture = decode_png(decode_base64(result["output"]["images"][0]))
    return picture.width, picture.height


@pytest.mark.slow
def test_a_job_returns_an_image(worker: Worker) -> None:
    assert size(worker.do(prompt="a lighthouse", **{**SMALL, "width": 128})) == (128, 64)
    # The engine keeps a line of the log a moment after the worker has printed it.
    eventually(lambda: "event=job-done" in worker.log(), seconds=10, what="the job's line")


@pytest.mark.slow
def test_an_invalid_job_fails_alone_and_names_its_field(worker: Worker) -> None:
    assert "input.width" in worker.do(prompt="a", width="wide")["error"]
    assert "input.init_images" in worker.do(api="img2img", prompt="a")["error"]
    assert size(worker.do(prompt="a", **SMALL)) == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"override_settings": {"sd_model_checkpoint": "gone"}}, "name-unknown"),
        ({"prompt": "a <lora:gone:1>"}, "name-unknown"),
        ({"restore_faces": True}, "weights-missing"),
        ({"api": "extras", "image": IMAGE, "upscaler_1": "R-ESRGAN 4x+"}, "weights-missing"),
        ({"api": "interrogate", "image": IMAGE}, "weights-missing"),
    ],
)
def test_what_is_not_there_is_refused(worker: Worker, given: dict[str, Any], code: str) -> None:
    assert f"[{code}]" in worker.do(**given)["error"]


@pytest.mark.slow
def test_a_lora_that_was_added_later_is_found_and_a_damaged_one_fails(
    worker: Worker, tmp_path: Path
) -> None:
    names = ("lora_unet_mid.lora_down.weight", "lora_unet_mid.lora_up.weight")
    whole = write_safetensors(tmp_path / "good.safetensors", *names).read_bytes()
    folder = "/tmp/a1111-worker/data/models/Lora"  # noqa: S108 - in the container
    script = (
        f"mkdir -p {folder} && cd {folder} && echo no > bad.safetensors"
        f" && echo {base64.b64encode(whole).decode()} | base64 -d > good.safetensors"
    )
    worker.box.exec_run(["sh", "-c", script])
    assert "[not-safetensors]" in worker.do(prompt="<lora:bad:1>", **SMALL)["error"]
    assert size(worker.do(prompt="<lora:good:1>", **SMALL)) == (64, 64)


@pytest.mark.slow
def test_a_killed_handler_is_replaced_and_takes_the_next_job(worker: Worker) -> None:
    (before,) = worker.pids(HANDLER)
    worker.box.exec_run(["kill", "-KILL", str(before)])
    assert size(worker.do(prompt="a", **SMALL)) == (64, 64)
    assert worker.pids(HANDLER) not in ([], [before])


@pytest.mark.slow
def test_it_listens_on_loopback_only(worker: Worker) -> None:
    assert worker.do(prompt="a", **SMALL)
    assert "host=127.0.0.1" in worker.log()


@pytest.mark.slow
def test_five_hundred_jobs_leave_no_memory_behind(cpu_image: str) -> None:
    # Through the SDK's own API server: its polling of RunPod takes one job a second at most.
    port = free_port()
    arguments = f"--rp_serve_api --rp_api_host 127.0.0.1 --rp_api_port {port}"
    with serverless(cpu_image, HANDLER_ARGS=arguments) as worker:

        def job(number: int) -> Any:
            body = json.dumps({"input": {"prompt": f"{number}", **SMALL}}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/runsync", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.URLError:
                return None

        eventually(lambda: job(0), seconds=START, what="the SDK's API")
        assert all(size(job(number)) == (64, 64) for number in range(100))  # pools fill first
        before = worker.resident()
        assert all(size(job(number)) == (64, 64) for number in range(400))
        assert worker.resident() < before + 30_000_000


@pytest.mark.slow
def test_a_stop_waits_until_the_result_is_sent(cpu_image: str) -> None:
    with serverless(cpu_image, **LIGHT, STANDIN_STEP_SECONDS="0.2") as worker:
        name = worker.platform.send({"prompt": "a", **SMALL, "steps": 20})
        eventually(lambda: worker.platform.progress[name], seconds=START, what="progress")
        worker.box.kill(signal.SIGTERM)
        assert size(worker.platform.result(name)) == (64, 64)
        assert worker.box.wait(timeout=30)["StatusCode"] == 0


@pytest.mark.slow
def test_a_webui_that_dies_in_a_job_fails_that_job_only(cpu_image: str) -> None:
    faults = {"STANDIN_FAULT": "killed-mid-job", "STANDIN_AFTER": "1", "STANDIN_ONCE": "/tmp/once"}  # noqa: S108
    with serverless(cpu_image, **LIGHT, **faults) as worker:
        assert worker.do(prompt="a", **SMALL)["error"]
        assert size(worker.do(prompt="a", **SMALL)) == (64, 64)


@pytest.mark.slow
def test_a_cuda_error_replaces_worker_and_webui(
    cpu_image: str,
) -> None:
    faults = {"STANDIN_FAULT": "cuda-error", "STANDIN_AFTER": "1", "STANDIN_ONCE": "/tmp/once"}  # noqa: S108
    with serverless(cpu_image, **LIGHT, **faults) as worker:
        result = worker.do(prompt="a", **SMALL)
        assert "CUDA error" in result["error"]
        assert result["stopPod"] is True
        assert size(worker.do(prompt="a", **SMALL)) == (64, 64)


@pytest.mark.slow
def test_a_hanging_job_is_stopped_and_the_next_drawn(cpu_image: str) -> None:
    faults = {"STANDIN_FAULT": "hang", "STANDIN_AFTER": "1", "STANDIN_ONCE": "/tmp/once"}  # noqa: S108
    with serverless(cpu_image, **LIGHT, **faults) as worker:
        assert "error" in worker.do(prompt="a", timeout=2, **SMALL)
        assert size(worker.do(prompt="a", **SMALL)) == (64, 64)


def test_a_stop_cuts_off_a_hanging_job_and_webui(cpu_image: str) -> None:
    faults = {"STANDIN_FAULT": "stubborn", "STANDIN_AFTER": "1"}
    with serverless(cpu_image, **LIGHT, **faults, STOP_TIMEOUT="2") as worker:
        worker.platform.send({"prompt": "a", **SMALL})
        eventually(lambda: "event=job-started" in worker.log(), seconds=60, what="the job")
        began = time.monotonic()
        worker.box.kill(signal.SIGTERM)
        assert worker.box.wait(timeout=30)["StatusCode"] == 5
        assert 2 <= time.monotonic() - began < 8
        assert "event=cut-off" in worker.log()
