"""The handler on RunPod's real SDK, beside a stand-in WebUI, as processes of this machine.

The SDK's packages are those of the image: its hashed lock, in an environment made for the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.common.checks.images import Png, decode_base64, decode_png
from scripts.common.webui_client import WebuiClient
from scripts.container.status.state import read_job_counts
from scripts.host.config.load import ROOT
from tests.support import bucket, runpod
from tests.support.job_adapter import adapting
from tests.support.sdk_worker import JOB, checkpoint, serverless
from tests.support.worker import Worker, free_port


def picture(result: Any) -> Png:
    return decode_png(decode_base64(result["output"]["images"][0]))


def test_jobs_of_runpods_queue_are_drawn_or_refused(tmp_path: Path, runpod_python: Path) -> None:
    with runpod.running() as platform:
        environment = {**platform.environment(), "STANDIN_STEP_SECONDS": "0.4"}
        with serverless(tmp_path, runpod_python, **environment) as worker:
            slow = platform.send({**JOB, "steps": 5})
            drawn = picture(platform.result(slow))
            assert (drawn.width, drawn.height, drawn.colours == 1) == (64, 64, False)
            steps = [report["step"] for report in platform.progress[slow]]
            assert steps
            # The SDK sends each report from a thread of its own: they may overtake one another.
            assert sorted(set(steps)) == sorted(steps)
            assert set(steps) <= set(range(6))
            assert "input.steps" in platform.do({"steps": "many"})["error"]
            assert "input.sampler_name" in platform.do({**JOB, "sampler_name": "none"})["error"]
            assert platform.do({"api": "options"})["output"]["samples_format"] == "png"
            worker.until(
                lambda: read_job_counts(worker.dir).running == 0, "the last result's way home"
            )
            record = read_job_counts(worker.dir)
            assert (record.done, record.failed) == (2, 2)
            assert "event=job-done job=job-1" in worker.log_text
            worker.process.send_signal(signal.SIGTERM)
            assert worker.ended() == 0


def test_a_job_without_input_is_dropped_by_the_sdk_and_the_next_one_drawn(
    tmp_path: Path, runpod_python: Path
) -> None:
    """So a caller's ping needs a key: RunPod counts such a job as failed after its time."""
    with runpod.running() as platform:
        empty = platform.send({})
        with serverless(tmp_path, runpod_python, **platform.environment()) as worker:
            assert "output" in platform.do(JOB)
            assert platform.find(empty) is None
            assert "missing field(s): id or input" in worker.log_text
            assert worker.state.restarts == 0


def test_progress_has_previews_where_a_job_asks_for_them(
    tmp_path: Path, runpod_python: Path
) -> None:
    with runpod.running() as platform:
        environment = {**platform.environment(), "STANDIN_STEP_SECONDS": "0.4"}
        with serverless(tmp_path, runpod_python, **environment) as worker:
            job = platform.send({**JOB, "steps": 8, "previews": True})
            platform.result(job)
            previews = [each["preview"] for each in platform.progress[job] if "preview" in each]
            assert {decode_png(decode_base64(each)).width for each in previews} == {8}
            assert len(set(previews)) == len(previews)
            assert "Running 1 fitness check" in worker.log_text, "the worker's own"


def test_settings_end_with_their_job(tmp_path: Path, runpod_python: Path) -> None:
    with (
        runpod.running() as platform,
        serverless(tmp_path, runpod_python, **platform.environment()) as worker,
    ):
        override = {"CLIP_stop_at_last_layers": 2}
        job = {**JOB, "override_settings": override}
        result = platform.do({**job, "override_settings_restore_afterwards": False})
        assert result["output"]["warnings"] == ["override_settings always end with the job"]
        assert platform.do({"api": "options"})["output"]["CLIP_stop_at_last_layers"] == 1
        assert worker.process.poll() is None


@pytest.mark.parametrize("kept", [1, 2])
def test_jobs_switch_between_checkpoints(tmp_path: Path, runpod_python: Path, kept: int) -> None:
    for name in ("one", "photo/two"):
        checkpoint(tmp_path / f"volume/models/checkpoint/{name}.safetensors", name)
    with runpod.running() as platform:
        environment = {
            **platform.environment(),
            "VOLUME_DIR": str(tmp_path / "volume"),
            "MODEL_PATH": "one",
            "CHECKPOINTS_IN_MEMORY": str(kept),
        }
        with serverless(tmp_path, runpod_python, **environment) as worker:
            drawn: dict[str, list[str]] = {}
            for name in ("one", "photo/two.safetensors", "two", "one.safetensors"):
                result = platform.do({**JOB, "override_settings": {"sd_model_checkpoint": name}})
                model = json.loads(result["output"]["info"])["sd_model_name"]
                drawn.setdefault(model, []).append(result["output"]["images"][0])
            assert {model: len(images) for model, images in drawn.items()} == {"one": 2, "two": 2}
            assert len({image for images in drawn.values() for image in images}) == 2
            assert worker.log_text.count("Loading weights") == (2 if kept == 2 else 3)


def test_images_go_to_a_configured_bucket(tmp_path: Path, runpod_python: Path) -> None:
    with runpod.running() as platform, bucket.running() as store:
        environment = {**platform.environment(), **store.environment()}
        with serverless(tmp_path, runpod_python, **environment) as worker:
            result = platform.do(JOB)
            address = result["output"]["images"][0]
            assert address.startswith(store.url)
            path = address.removeprefix(store.url).partition("?")[0]
            assert "/job-1/" in path
            assert decode_png(store.stored[path]).width == 64
            assert "not-a-secret" not in worker.log_text


UPLOAD = """
import json, sys
from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.answer.bucket import open_bucket
from scripts.container.serverless.answer.output_settings import BucketAccess
url, key = sys.argv[1:]
try:
    upload = open_bucket(BucketAccess(url, key, "not-a-secret", "pictures"), "job-1")
    print(json.dumps([upload(b"image", suffix) for suffix in (".png", ".jpg", ".webp")]))
except UserError as error:
    print(error)
"""


def upload(python: Path, folder: Path, *arguments: str) -> str:
    """Upload three images with the SDK's client; return what was printed."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [str(python), "-c", UPLOAD, *arguments]
    run = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True)
    assert "not-a-secret" not in run.stdout + run.stderr
    return run.stdout


def test_images_go_to_the_bucket_that_a_job_names(tmp_path: Path, runpod_python: Path) -> None:
    with bucket.running() as store:
        addresses = json.loads(upload(runpod_python, tmp_path, store.url, "key"))
        paths = [each.removeprefix(store.url).partition("?")[0] for each in addresses]
        assert [path.rpartition("/")[0] for path in paths] == ["/pictures/job-1"] * 3
        assert [store.types[path] for path in paths] == ["image/png", "image/jpeg", "image/webp"]
        assert all("X-Amz-Signature" in each for each in addresses)


def test_an_upload_whose_connection_breaks_is_sent_again(
    tmp_path: Path, runpod_python: Path
) -> None:
    with bucket.running(broken=2) as store:
        assert len(json.loads(upload(runpod_python, tmp_path, store.url, "key"))) == 3
    assert list(store.stored.values()) == [b"image"] * 3


def test_a_refused_upload_is_an_error_and_no_local_file(
    tmp_path: Path, runpod_python: Path
) -> None:
    """The SDK's own functions write a folder where they have no credentials, and call it done."""
    with bucket.running() as store:
        shown = upload(runpod_python, tmp_path, store.url, "wrong-key")
    assert "InvalidAccessKeyId" in shown
    assert "[upload-failed]" in shown
    assert "[upload-failed]" in upload(runpod_python, tmp_path, "http://127.0.0.1:9", "key")
    assert list(tmp_path.iterdir()) == []


def test_a_job_cannot_upload_into_the_network(tmp_path: Path, runpod_python: Path) -> None:
    with (
        runpod.running() as platform,
        bucket.running() as store,
        serverless(tmp_path, runpod_python, **platform.environment()) as worker,
    ):
        access = {"accessId": "key", "accessSecret": "not-a-secret", "bucketName": "pictures"}
        job = platform.send(JOB, s3Config={**access, "endpointUrl": store.url})
        assert "[address-not-public]" in platform.result(job)["error"]
        assert not store.stored
        assert "not-a-secret" not in worker.log_text


def test_a_job_cannot_download_from_the_network(tmp_path: Path, runpod_python: Path) -> None:
    environment = {"JOB_DOWNLOADS": "127.0.0.1", "VOLUME_DIR": str(tmp_path / "none")}
    with (
        runpod.running() as platform,
        bucket.running() as store,
        serverless(tmp_path, runpod_python, **environment, **platform.environment()) as worker,
    ):
        source = {"url": f"{store.url}/style.safetensors", "sha256": "0" * 64}
        error = platform.do({**JOB, "loras": [source]})["error"]
        assert "input.loras[0]" in error
        assert "[address-not-public]" in error
        assert list((worker.dir / "job-models").iterdir()) == []


def test_a_cuda_error_replaces_worker_and_webui(tmp_path: Path, runpod_python: Path) -> None:
    with runpod.running() as platform:
        environment = {
            **platform.environment(),
            "STANDIN_FAULT": "cuda-error",
            "STANDIN_AFTER": "1",
            "STANDIN_ONCE": str(tmp_path / "once"),
        }
        with serverless(tmp_path, runpod_python, **environment) as worker:
            result = platform.do(JOB)
            assert result["stopPod"] is True
            assert "[cuda-error]" in result["error"]
            assert picture(platform.do(JOB)).width == 64, "a new WebUI serves meanwhile"
            assert worker.state.restarts == 1


class LocalApi:
    """The SDK's own API server for development."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def runsync(self, given: object) -> tuple[int, Any]:
        """A job from start to end: status and answer."""
        body = json.dumps({"input": given}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/runsync", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def is_up(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.address}/docs", timeout=5).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def local(
    tmp_path_factory: pytest.TempPathFactory, runpod_python: Path
) -> Iterator[tuple[Worker, LocalApi]]:
    """A worker whose handler serves the SDK's local API."""
    port = free_port()
    arguments = f"--rp_serve_api --rp_api_host 127.0.0.1 --rp_api_port {port} --rp_log_level ERROR"
    folder = tmp_path_factory.mktemp("local")
    with serverless(folder, runpod_python, HANDLER_ARGS=arguments) as worker:
        api = LocalApi(port)
        worker.until(api.is_up, "the SDK's API server")
        yield worker, api


def test_the_sdks_local_api_draws(local: tuple[Worker, LocalApi]) -> None:
    _, api = local
    status, answer = api.runsync(JOB)
    assert (status, answer["status"]) == (200, "COMPLETED")
    assert picture(answer).width == 64


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["api", "payload", "timeout", "steps", "width", "prompt", "seed", "image"])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(FIELDS, ANY_JSON, min_size=1, max_size=4))
def test_any_input_leaves_the_worker_running(
    local: tuple[Worker, LocalApi], given_input: dict[str, Any]
) -> None:
    worker, api = local
    small = {"width": 64, "height": 64, "steps": 1}
    _, answer = api.runsync({**small, **given_input})
    assert answer.get("error") or answer["status"] == "COMPLETED"
    assert worker.process.poll() is None
    assert worker.state.restarts == 0


def handler_of(worker: Worker) -> psutil.Process:
    """The process of a worker's handler."""
    children = psutil.Process(worker.process.pid).children()
    return next(child for child in children if "handler" in child.cmdline())


@pytest.mark.slow
def test_five_hundred_jobs_leave_memory_unchanged(local: tuple[Worker, LocalApi]) -> None:
    worker, api = local
    for _ in range(100):
        api.runsync(JOB)  # until pools and caches have their size
    handler = handler_of(worker)
    before = handler.memory_info().rss
    for number in range(500):
        status, answer = api.runsync({**JOB, "seed": number})
        assert (status, answer["status"]) == (200, "COMPLETED")
    assert handler_of(worker) == handler
    # 500 pictures of 17 kB that stayed would be 8.5 MB, and their copies several times that.
    assert handler.memory_info().rss - before < 8_000_000
    assert worker.state.restarts == 0


def test_the_sdk_draws_test_input_and_ends(tmp_path: Path, runpod_python: Path) -> None:
    arguments = f"--test_input '{json.dumps({'input': JOB})}'"
    with serverless(tmp_path, runpod_python, HANDLER_ARGS=arguments) as worker:
        assert worker.ended() == 0, worker.log_text
        assert "completed successfully" in worker.log_text
        record = read_job_counts(worker.dir)
        assert (record.done, record.failed) == (1, 0)


def test_no_job_is_taken_before_an_image_was_drawn(tmp_path: Path, runpod_python: Path) -> None:
    with runpod.running() as platform:
        platform.send(JOB)
        environment = {**platform.environment(), "STANDIN_FAULT": "no-model", "RESTARTS": "0"}
        with serverless(tmp_path, runpod_python, **environment) as worker:
            assert worker.ended() != 0
            assert "event=job-started" not in worker.log_text


def test_a_job_and_a_direct_request_draw_the_same(
    local: tuple[Worker, LocalApi],
) -> None:
    worker, api = local
    client = WebuiClient.local("127.0.0.1", worker.port)
    direct = client.request("POST", "/sdapi/v1/txt2img", JOB, timeout=60).json()
    _, answer = api.runsync(JOB)
    assert answer["output"]["images"] == direct["images"]


def test_clients_of_the_webui_run_through_the_queue(tmp_path: Path, runpod_python: Path) -> None:
    with (
        runpod.running() as platform,
        serverless(tmp_path, runpod_python, **platform.environment()),
        adapting(platform) as server,
    ):
        api = WebuiClient(server.url)
        drawn = api.request("POST", "/sdapi/v1/txt2img", JOB, timeout=60).json()
        assert sorted(drawn) == ["images", "info", "parameters"]
        assert decode_png(decode_base64(drawn["images"][0])).width == 64
        names = api.request("GET", "/sdapi/v1/samplers", timeout=60).json()
        assert "Euler a" in [each["name"] for each in names]
        assert api.request("POST", "/sdapi/v1/refresh-checkpoints", timeout=60).json() is None
        refused = api.request("POST", "/sdapi/v1/txt2img", {**JOB, "steps": "many"}, timeout=60)
        assert (refused.status, refused.json()["error"]) == (422, "input-invalid")
        assert "input.steps" in refused.json()["errors"]
        missing = api.request("POST", "/sdapi/v1/img2img", {"sampler_name": "none"}, timeout=60)
        assert (missing.status, missing.json()["error"]) == (404, "name-unknown")
        faces = api.request("POST", "/sdapi/v1/txt2img", {"restore_faces": True}, timeout=60)
        assert (faces.status, faces.json()["error"]) == (500, "weights-missing")
        assert api.request("POST", "/sdapi/v1/interrupt", timeout=60).json() == {}
