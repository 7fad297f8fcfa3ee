"""Known failures in the WebUI's output reach the handler: every one, at once, by code."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.container.serverless.handler import make_context
from scripts.container.serverless.jobs import run_job
from scripts.container.settings import Settings
from scripts.container.status.log_findings import find_in_line, read_findings, serve_findings
from scripts.container.supervisor import exit_reason
from scripts.container.supervisor.exit_reason import find_exit_reason
from scripts.container.supervisor.process import ChildProcess
from tests.support.worker import Worker

# Lines as A1111 v1.9.3 and v1.10.1 print them; the file and line of each is its source.
LINES = {
    # modules/esrgan_model.py:34, realesrgan_model.py:39, dat_model.py:30
    "*** Unable to load ESRGAN model https://github.com/x/ESRGAN.pth": "weights-not-loaded",
    "*** Unable to load RealESRGAN model https://github.com/x.pth": "weights-not-loaded",
    "*** Unable to load DAT model https://github.com/x.pth": "weights-not-loaded",
    # extensions-builtin/SwinIR/scripts/swinir_model.py:49, ScuNET/scripts/scunet_model.py:45
    "Failed loading SwinIR model /x.pth: not a zip": "weights-not-loaded",
    "ScuNET: Unable to load model from https://x.pth: <urlopen error>": "weights-not-loaded",
    # modules/hat_model.py:29, extensions-builtin/LDSR/scripts/ldsr_model.py:60
    "Unable to load HAT model /x.pth: Model file not found": "weights-not-loaded",
    "*** Failed loading LDSR model None": "weights-not-loaded",
    # spandrel, for DAT and Real-ESRGAN: status 500, modules/modelloader.py:150 of v1.9.3
    "spandrel.__helpers.registry.UnsupportedModelError": "weights-not-loaded",
    # modules/face_restoration_utils.py:152, 92; modules/gfpgan_model.py:59
    "2026-11-27 10:00:00 WARNING [modules.face_restoration_utils] Unable to load face-restoration"
    " model": "weights-not-loaded",
    "*** Failed face-restoration inference": "weights-not-loaded",
    # modules/hypernetworks/hypernetwork.py:331, extensions-builtin/Lora/networks.py:285
    "*** Error loading hypernetwork /models/hypernetworks/x.pt": "weights-not-loaded",
    "loading network /models/Lora/x.safetensors: SafetensorError": "weights-not-loaded",
    # modules/images.py:276, modules/sd_vae.py:141, modules/sd_models.py:228
    "could not find upscaler named 8x, using None as a fallback": "fallback-used",
    "Couldn't find VAE named x.pt; using None instead": "fallback-used",
    "Checkpoint x.ckpt not found; loading fallback y.safetensors": "fallback-used",
    # modules/extra_networks.py:130
    "activating extra network lora with arguments [<x>]: ValueError": "fallback-used",
    # modules/scripts.py:827
    "*** Error running process: /extensions/sd-webui-controlnet/scripts/controlnet.py": (
        "script-failed"
    ),
}


@pytest.mark.parametrize(("line", "code"), LINES.items())
def test_a_line_about_something_else_being_used_has_a_code(line: str, code: str) -> None:
    found = find_in_line(line)
    assert found
    assert found.code == code


@pytest.mark.parametrize(
    "line",
    [
        # modules/processing.py:656, before it draws again
        "A tensor with all NaNs was produced in VAE.",
        "Loading weights [None] from /models/x.safetensors",
        "100%|██████████| 20/20 [00:01<00:00, 11.1it/s]",
        'INFO: "POST /sdapi/v1/txt2img HTTP/1.1" 200 OK',
        'Sampler Scheduler autocorrection: "Euler" -> "Euler", "None" -> "Automatic"',
    ],
)
def test_an_ordinary_line_is_no_finding(line: str) -> None:
    assert find_in_line(line) is None


def test_a_progress_bar_before_the_message_is_left_out() -> None:
    found = find_in_line("  0%|   | 0/1 [00:00<?, ?it/s]*** Unable to load DAT model /x.pth")
    assert found
    assert found.text == "Unable to load DAT model /x.pth"


def run(tmp_path: Path, script: str) -> ChildProcess:
    command = [sys.executable, "-u", "-c", script, str(tmp_path / "printed")]
    return ChildProcess("webui", command, env={}, cwd=tmp_path, on_exit=lambda _: None)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


NOISE_THEN_FALLBACK = """
import pathlib, sys, time
for _ in range(2000):
    print("x" * 500)
print("could not find upscaler named 8x, using None as a fallback")
pathlib.Path(sys.argv[1]).touch()
time.sleep(20)
"""


def test_a_line_is_found_as_soon_as_it_is_printed(tmp_path: Path) -> None:
    child = run(tmp_path, NOISE_THEN_FALLBACK)
    try:
        wait_for(tmp_path / "printed")
        assert [found.code for found in child.read_findings()] == ["fallback-used"]
    finally:
        child.kill_group()
        child.wait()


def test_findings_are_asked_for_through_a_long_path(tmp_path: Path) -> None:
    worker_dir = tmp_path / ("long" * 30)  # a socket's own path is limited to 107 bytes
    worker_dir.mkdir()
    lines = ("could not find upscaler named 8x", "CUDA out of memory.")
    known = [found for line in lines if (found := find_in_line(line))]
    serve_findings(worker_dir, lambda: known)
    answer = read_findings(worker_dir, 0.0)
    assert [row.code for row in answer] == ["fallback-used", "out-of-memory"]
    assert read_findings(worker_dir, time.monotonic()) == ()


def test_without_a_supervisor_asking_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_findings(tmp_path, 0.0)


CAUSE_FAR_ABOVE = """
print("loading stable diffusion model: SafetensorError")
print("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge")
for number in range(300):
    print(f"    line {number} of tracebacks")
print("Stable diffusion model failed to load")
print("AttributeError: 'NoneType' object has no attribute 'lowvram'")
"""


def test_an_exit_is_explained_by_a_cause_300_lines_above(tmp_path: Path) -> None:
    child = run(tmp_path, CAUSE_FAR_ABOVE)
    child.wait()
    assert child.ended.wait(20)
    fields = find_exit_reason(child, oom_killed=False).log_fields()
    assert fields["finding"] == "model-corrupt"
    assert fields["cause"] == "SafetensorError: Error while deserializing header: HeaderTooLarge"
    assert "invoke models.verify" in fields["cure"]
    assert "lowvram" in fields["last"]


def test_what_was_printed_long_ago_explains_no_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = run(tmp_path, CAUSE_FAR_ABOVE)
    child.wait()
    assert child.ended.wait(20)
    monkeypatch.setattr(exit_reason, "_WINDOW", 0.0)
    assert (
        "finding"
        not in exit_reason.find_exit_reason(child, oom_killed=False, serving=True).log_fields()
    )


SURVIVED_THEN_FATAL = """
import time
print("OutOfMemoryError: CUDA out of memory. Tried to allocate 320.00 MiB.", flush=True)
time.sleep(1)
print("AcceleratorError: CUDA error: device-side assert triggered", flush=True)
"""


def test_a_failure_that_was_survived_explains_no_later_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_reason, "_BURST", 0.5)
    child = run(tmp_path, SURVIVED_THEN_FATAL)
    child.wait()
    assert child.ended.wait(20)
    reason = exit_reason.find_exit_reason(child, oom_killed=False, serving=True)
    assert reason.log_fields()["finding"] == "cuda-error"
    reason = exit_reason.find_exit_reason(child, oom_killed=False)
    assert reason.log_fields()["finding"] == "out-of-memory"


@pytest.mark.parametrize(
    ("is_replaced", "oom_killed", "sender"),
    [(True, True, "supervisor"), (False, True, "kernel"), (False, False, "unknown")],
)
def test_who_killed_a_process_is_said(
    tmp_path: Path, is_replaced: bool, oom_killed: bool, sender: str
) -> None:
    child = run(tmp_path, "import time; time.sleep(60)")
    child.is_replaced = is_replaced
    child.kill()
    child.wait()
    assert child.ended.wait(20)
    fields = find_exit_reason(child, oom_killed=oom_killed).log_fields()
    assert (fields["how"], fields["sent_by"]) == ("SIGKILL", sender)


def test_asking_costs_little(tmp_path: Path) -> None:
    serve_findings(tmp_path, tuple)
    read_findings(tmp_path, 0.0)
    durations = []
    for _ in range(50):
        began = time.monotonic()
        read_findings(tmp_path, 0.0)
        durations.append(time.monotonic() - began)
    assert sorted(durations)[10] < 0.005


def test_a_fallback_that_only_the_log_shows_fails_the_job(tmp_path: Path) -> None:
    worker = Worker(tmp_path, STANDIN_FAULT="fallback")
    try:
        worker.ready()
        settings = replace(
            Settings.from_environment({"WEBUI_HOST": "127.0.0.1"}),
            worker_dir=worker.dir,
            webui_port=worker.port,
        )
        job = {"id": "1", "input": {"prompt": "x", "width": 64, "height": 64}}
        result = run_job(job, make_context(settings))
    finally:
        worker.stop()
    assert "[weights-not-loaded]" in result["error"]
    assert "/models/ESRGAN/4x.pth" in result["error"]
