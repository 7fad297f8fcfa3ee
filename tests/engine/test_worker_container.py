"""The worker in its image: started as root or hardened, stopped, killed and failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.host.config.load import ROOT
from scripts.host.serve import LABEL
from tests.support.running import container, eventually, invoke

START = 240.0  # seconds for importing torch on a machine that does other things too
WORKER = ["/opt/runpod/bin/python", "-m", "scripts.container"]
HEALTH = [*WORKER, "health"]
SERVER = "pgrep -f [w]ebui.py"


def wait_until_ready(running: Any) -> None:
    def healthy() -> bool:
        running.reload()
        assert running.status == "running", running.logs().decode()
        return bool(running.exec_run(HEALTH).exit_code == 0)

    eventually(healthy, seconds=START, what="a drawn picture")


def stop(running: Any) -> int:
    """Stop a container as `docker stop` does, and return its exit code."""
    running.stop(timeout=30)
    return int(running.wait()["StatusCode"])


def log(running: Any) -> str:
    return str(running.logs().decode())


def serving_user(running: Any) -> set[str]:
    pids = running.exec_run(SERVER).output.decode().split()
    assert pids
    return {running.exec_run(f"stat -c %u /proc/{pid}").output.decode().strip() for pid in pids}


HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's own
    "cap_drop": ["ALL"],
    "network_mode": "none",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "user"),
    [
        pytest.param({}, "1000", id="as root, which it leaves"),
        pytest.param({**HARDENED, "user": "1234"}, "1234", id="hardened, as any user"),
        pytest.param(HARDENED, "0", id="hardened, as a root without capabilities"),
    ],
)
def test_draws_and_stops_with_exit_code_0(
    cpu_image: str, options: dict[str, Any], user: str
) -> None:
    with container(cpu_image, **options) as running:
        wait_until_ready(running)
        assert serving_user(running) == {user}
        assert stop(running) == 0


@pytest.mark.slow
def test_killed_server_restarts_and_killed_supervisor_ends_the_container(
    cpu_image: str,
) -> None:
    environment = {"RESTART_PAUSE": "0.1", "STANDIN_TORCH": "0"}
    with container(cpu_image, environment=environment) as running:
        wait_until_ready(running)
        assert running.exec_run("pkill -KILL -f [w]ebui.py").exit_code == 0
        eventually(lambda: "how=SIGKILL" in log(running), seconds=10, what="the death's report")
        wait_until_ready(running)
        running.exec_run("pkill -KILL -f scripts.[c]ontainer$")  # which ends with the container
        assert running.wait(timeout=10)["StatusCode"] != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("volume", "warned"),
    [
        pytest.param({"tmpfs": {"/runpod-volume": ""}}, False, id="mounted"),
        pytest.param({"tmpfs": {"/runpod-volume": "ro"}}, True, id="read-only"),
        pytest.param({"tmpfs": {"/runpod-volume": "size=4k"}}, True, id="full"),
        pytest.param({}, True, id="missing"),
    ],
)
def test_pip_cache_is_on_a_usable_volume_only(
    cpu_image: str, volume: dict[str, Any], warned: bool
) -> None:
    # The allocator's search is the last step before the start, and the folders come before it.
    with container(cpu_image, environment={"PREFLIGHT": "off"}, **volume) as running:
        eventually(lambda: "event=webui-started" in log(running), seconds=30, what="start")
        assert log(running).count("event=pip-cache-ephemeral") == int(warned)
        pid = running.exec_run(SERVER).output.decode().split()[0]
        command = ["sh", "-c", f"tr '\\0' '\\n' < /proc/{pid}/environ"]
        environ = running.exec_run(command, user="worker").output.decode()
        place = "/tmp/a1111-worker/pip-cache" if warned else "/runpod-volume/.cache/a1111/pip"  # noqa: S108
        assert f"PIP_CACHE_DIR={place}\n" in environ
        owner = running.exec_run(["stat", "-c", "%U", place]).output.decode().strip()
        assert owner == "worker"
        stats = running.exec_run([*WORKER, "pip-cache", "stats", "--json"]).output
        assert json.loads(stats)["path"] == place


def test_volume_owned_by_root_is_used_without_warning(cpu_image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # as a new volume is; only the cache's own folder becomes the worker's
    volume = {str(tmp_path): {"bind": "/runpod-volume", "mode": "rw"}}
    with container(cpu_image, volumes=volume) as running:
        eventually(lambda: "event=preflight-done" in log(running), seconds=60, what="preflight")
        assert "findings=0" in log(running)
        assert "event=pip-cache-ephemeral" not in log(running)
    assert (tmp_path / ".cache/a1111/pip").stat().st_uid == 1000
    assert tmp_path.stat().st_uid != 1000


def test_stop_while_torch_is_imported_ends_at_once(cpu_image: str) -> None:
    with container(cpu_image) as running:
        eventually(lambda: "event=webui-started" in log(running), seconds=30, what="start")
        began = time.monotonic()
        assert stop(running) == 0
        assert time.monotonic() - began < 10


QUICK = {"STANDIN_TORCH": "0", "RESTARTS": "1", "RESTART_PAUSE": "0.1", "PREFLIGHT": "off"}


def test_tcmalloc_is_loaded_by_the_webui_only(cpu_image: str) -> None:
    environment = {**QUICK, "WORKER_MODE": "serverless", "HANDLER_ARGS": "--rp_serve_api"}
    with container(
        cpu_image,
        environment=environment,
        network_mode="none",
        cap_add=["SYS_PTRACE"],  # to look into processes that have changed their user
    ) as running:
        wait_until_ready(running)
        processes = running.exec_run(["pgrep", "-u", "worker"]).output.split()
        assert len(processes) == 3, "supervisor, handler, WebUI"
        script = "for p in $(pgrep -u worker); do grep -q tcmalloc /proc/$p/maps && echo $p; done"
        found = running.exec_run(["sh", "-c", script]).output
        assert found == running.exec_run(SERVER).output != b""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash-at-start", "RuntimeError: the stand-in was asked to crash at start"),
        ("crash-while-loading", "how=SIGABRT"),
        ("hang-at-start", "the API did not answer in time"),
        ("no-model", "the WebUI answered 500 AttributeError: 'NoneType' object"),
        ("garbage", "answer holds no picture"),
        ("no-images", "answer holds no picture"),
        ("truncated-png", "answer holds no picture"),
        ("flat", "the picture has one colour throughout"),
        ("wrong-size", "the picture is 56x64, not 64x64"),
    ],
)
def test_webui_that_cannot_draw_ends_the_worker_with_the_reason(
    cpu_image: str, fault: str, reason: str
) -> None:
    timeout = "3" if fault == "hang-at-start" else "60"
    environment = {**QUICK, "STANDIN_FAULT": fault, "READY_TIMEOUT": timeout}
    with container(cpu_image, environment=environment, network_mode="none") as running:
        assert running.wait(timeout=120)["StatusCode"] == 4
        assert reason in log(running)
        # One that was not ready in time is not started again.
        assert log(running).count("event=webui-died") == (1 if fault == "hang-at-start" else 2)
        assert "event=ready" not in log(running)


def test_out_of_memory_kill_is_reported(cpu_image: str) -> None:
    environment = {**QUICK, "STANDIN_TORCH": "1", "RESTARTS": "0"}
    with container(
        cpu_image, environment=environment, mem_limit="120m", memswap_limit="120m"
    ) as running:
        assert running.wait(timeout=120)["StatusCode"] == 4
        assert 'hint="the kernel killed for memory in this container"' in log(running)


@pytest.mark.slow
def test_serve_prints_the_url_when_ready_and_removes_its_container(cpu_image: str) -> None:
    command = [
        sys.executable,
        "-m",
        "invoke",
        "serve",
        "--cpu",
        "--port",
        "0",
        "--image",
        cpu_image,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as served:
        try:
            assert served.stdout is not None
            line = served.stdout.readline()
            assert line.startswith("ready: http://127.0.0.1:")
        finally:
            os.kill(served.pid, signal.SIGTERM)
        assert served.wait(60) == 0
    left = ["docker", "ps", "-aq", "--filter", f"label={LABEL}"]
    assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.slow
def test_flags_and_settings_of_config_are_those_of_the_running_webui(
    image_config: Path, model_store: Path
) -> None:
    tag = "a1111-worker-test:cpu-settings"
    settings = "{CLIP_stop_at_last_layers: 2, samples_format: webp, no_such_option: 1}"
    answer = invoke(
        *("build", "--variant", "cpu", "--tag", tag),
        *("-D", f"webui.settings={settings}", "-D", "webui.flags.add=[--opt-channelslast]"),
        *("-D", "webui.flags.remove=[--no-hashing]"),
        config=image_config,
        MODELS_STORE=str(model_store),
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    environment = {"WEBUI_SETTINGS": '{"samples_format": "jpg"}', "WARMUP": "64x64,72x64"}
    with container(tag, environment={**environment, "STANDIN_TORCH": "0"}) as running:
        wait_until_ready(running)
        options, flags = (get(running, f"/sdapi/v1/{name}") for name in ("options", "cmd-flags"))
        assert (options["CLIP_stop_at_last_layers"], options["samples_format"]) == (2, "jpg")
        assert (flags["opt_channelslast"], flags["no_hashing"], flags["api"]) == (True, False, True)
        # The engine keeps a line of the log a moment after the worker has printed it.
        eventually(lambda: "event=ready" in log(running), seconds=10, what="the log's last line")
        lines = [line for line in log(running).splitlines() if "event=option-wrong" in line]
        assert len(lines) == 1
        assert "no option no_such_option" in lines[0]
        assert log(running).count("event=warmed-up") == 2


def get(running: Any, path: str) -> dict[str, Any]:
    """Return what the WebUI of a container answers."""
    command = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:3000{path}').read().decode())"
    answer: dict[str, Any] = json.loads(
        running.exec_run(["/opt/runpod/bin/python", "-c", command]).output
    )
    return answer
