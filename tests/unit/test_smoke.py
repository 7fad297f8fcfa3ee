"""The smoke tests' judgement: names of failures, GPU facts, and the report's forms."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import docker
import pytest

from scripts.common.findings import FINDINGS
from scripts.host.smoke import gpu, report
from scripts.host.smoke.naming import excerpt, named
from scripts.host.smoke.worker import device_requests

# In the form nvidia-smi prints with these options
# (https://docs.nvidia.com/deploy/nvidia-smi/index.html).
SMI = "NVIDIA RTX 6000 Ada Generation, 49140, 8.9\nNVIDIA GeForce RTX 4090, 24564, 8.9\n"
ADA, GAMING = gpu.parse_smi(SMI)
SUBJECT = report.Subject(image="a/b:c", image_id="sha256:1", variant="cpu")
GOOD = report.Check(name="draws", outcome="passed", seconds=1.0, evidence="64x64")
BAD = report.Check(
    name="loads", outcome="failed", seconds=2.0, code="model-corrupt", excerpt="a\x1b[31m<b>"
)
SKIPPED = report.Check(name="has a GPU", outcome="skipped", seconds=0.0, evidence="no GPU")


def test_nvidia_smi_is_read_in_bytes_and_versions() -> None:
    assert gpu.Device("NVIDIA RTX 6000 Ada Generation", 49140 * 2**20, (8, 9)) == ADA


def test_torch_may_see_a_little_less_memory_and_another_order() -> None:
    less = gpu.Device(ADA.name, int(ADA.memory * 0.97), ADA.capability)
    assert gpu.disagreement([ADA, GAMING], [GAMING, less]) == ""


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        ([], "2 GPUs, torch 0"),
        ([ADA, ADA], "4090"),
        ([ADA, gpu.Device(GAMING.name, GAMING.memory // 2, GAMING.capability)], "bytes"),
        ([ADA, gpu.Device(GAMING.name, GAMING.memory, (8, 6))], "(8, 6)"),
    ],
)
def test_gpus_that_differ_are_told(torch: list[gpu.Device], words: str) -> None:
    assert words in gpu.disagreement([ADA, GAMING], torch)


def test_no_gpu_at_all_is_no_agreement() -> None:
    assert gpu.disagreement([], []) == "nvidia-smi lists no GPU"


def test_an_ada_card_runs_code_for_ampere_and_none_for_hopper() -> None:
    assert gpu.without_code([ADA], ["sm_80", "sm_86"]) == ()
    assert gpu.without_code([ADA], ["sm_90"]) == (ADA.name,)


def test_results_far_off_raised_or_nan_are_wrong() -> None:
    errors: dict[str, float | str] = {
        "fine": 0.001,
        "far": 0.5,
        "nan": float("nan"),
        "raised": "RuntimeError: no kernel",
    }
    assert [line.partition(":")[0] for line in gpu.wrong(errors, 0.03)] == ["far", "nan", "raised"]


def test_gpu_memory_may_grow_by_workspaces_and_no_more() -> None:
    assert gpu.kept(10**9, 10**9 + gpu.LEFT_OVER) == ""
    assert gpu.kept(10**9, 10**9 + gpu.LEFT_OVER + 1)


def test_a_vague_failure_is_named_by_the_log_and_a_clear_one_is_not() -> None:
    log = "x\nsafetensors_rust.SafetensorError: Error while deserializing header\ny"
    assert named("not-drawn", log) == "model-corrupt"
    assert named("picture-flat", log) == "picture-flat"
    assert named("port-closed", "all is well") == "port-closed"
    assert "SafetensorError" in excerpt("model-corrupt", log)


def test_a_memory_monitor_that_misses_a_gpu_is_no_failure() -> None:
    words = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
    assert named("", f"Warning: caught exception '{words}', memory monitor disabled") == ""
    assert named("", f"RuntimeError: {words}") == "gpu-not-visible"


def test_each_code_a_check_uses_is_in_the_table() -> None:
    words = "".join(path.read_text() for path in Path("tests/smoke").glob("*.py"))
    codes = set(re.findall(r'(?:fails_as\(|code=)"([a-z0-9-]+)"', words))
    assert len(codes) > 10
    assert codes <= set(FINDINGS)


@pytest.mark.parametrize("checks", [(), (SKIPPED,), (GOOD, BAD)])
def test_nothing_run_or_anything_failed_is_no_pass(checks: tuple[report.Check, ...]) -> None:
    assert not report.made(SUBJECT, checks).passed


def test_a_report_is_read_back_as_it_was_written_beside_its_other_forms(tmp_path: Path) -> None:
    (tmp_path / "smoke-cpu-txt2img.png").write_bytes(b"\x89PNG")
    memory = (report.Usage(seconds=1, memory=10), report.Usage(seconds=2, memory=20))
    made = report.made(
        SUBJECT,
        (GOOD, BAD, SKIPPED),
        phases={"answers": 2.0, "drawn": 3.0},
        memory=memory,
        pictures=("smoke-cpu-txt2img.png",),
    )
    path = report.write(made, tmp_path, "the log")
    assert report.SmokeReport.model_validate_json(path.read_text()) == made
    suite = Xml.fromstring((tmp_path / "smoke-cpu.xml").read_text())  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    page = (tmp_path / "smoke-cpu.html").read_text()
    assert "data:image/png;base64,iVBORw==" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert FINDINGS["model-corrupt"].cure.split(";")[0] in page
    assert 'src="http' not in page
    assert (tmp_path / "smoke-cpu.log").read_text() == "the log"


def test_gpus_are_asked_for_as_the_engines_api_wants() -> None:
    assert device_requests("") == []
    every, one = device_requests("all")[0], device_requests("1")[0]
    assert (every["Count"], every["Capabilities"]) == (-1, [["gpu"]])
    assert (one["DeviceIDs"], one["Count"]) == (["1"], 0)
    assert isinstance(one, docker.types.DeviceRequest)
