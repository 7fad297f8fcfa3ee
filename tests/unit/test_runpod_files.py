"""RunPod's own files agree with the worker."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from scripts.container.settings import VARIABLES, Settings
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, load
from scripts.host.config.model_place import CHECKPOINT_PATH
from tests.support.releases import RecordedFacts
from tests.support.runpod_hub import problems_of_hub, problems_of_tests

OTHERS = {"HF_TOKEN": "", "RUNPOD_INIT_TIMEOUT": "630"}
"""Variables of the Hub's client and of RunPod, with the defaults that the listing gives."""


def read(name: str) -> Any:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def request_for(given: Any) -> JobRequest:
    return make_request(parse_job_input(given, 600), RecordedFacts(), InputPolicy())


def test_the_worker_accepts_every_job_of_runpods_tests() -> None:
    for test in read(".runpod/tests.json")["tests"]:
        assert not request_for(test["input"]).warnings
        assert test["timeout"] >= 1000, "RunPod counts milliseconds"


def test_the_worker_accepts_the_sdks_test_input() -> None:
    assert request_for(read("test_input.json")["input"]).name == "txt2img"


def test_the_hubs_settings_are_variables_of_the_worker() -> None:
    config = read(".runpod/hub.json")["config"]
    for row in config["env"]:
        default = VARIABLES[row["key"]].default if row["key"] in VARIABLES else OTHERS[row["key"]]
        assert str(row["input"]["default"]) == default
        for option in row["input"].get("options", ()):
            Settings.from_environment({row["key"]: option["value"]})
    for preset in config["presets"]:
        Settings.from_environment({key: str(each) for key, each in preset["defaults"].items()})


def test_sdxl_is_the_checkpoint_of_the_variant() -> None:
    presets = {
        each["name"]: each["defaults"] for each in read(".runpod/hub.json")["config"]["presets"]
    }
    [checkpoint] = [
        each for each in resolve(load("sdxl")).artifacts if each.model.target == CHECKPOINT_PATH
    ]
    assert presets["SDXL"]["MODEL_PATH"] == str(checkpoint.reference)


def test_both_files_keep_the_hubs_rules() -> None:
    assert problems_of_hub(read(".runpod/hub.json")) == []
    assert problems_of_tests(read(".runpod/tests.json")) == []


def test_the_hub_finds_the_files_that_it_asks_for() -> None:
    for name in ("handler.py", "Dockerfile", "README.md"):
        assert (ROOT / ".runpod" / name).is_file() or (ROOT / name).is_file()
    run = [sys.executable, str(ROOT / ".runpod/handler.py")]
    environment = {"PYTHONPATH": str(ROOT), "WORKER_MODE": "no such mode"}
    answer = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "WORKER_MODE is 'no such mode'" in answer.stdout + answer.stderr


def changed(name: str, *path: Any, to: Any) -> Any:
    """A file with another value at a place; None removes it."""
    tree = read(name)
    *folders, last = path
    place = tree
    for each in folders:
        place = place[each]
    if to is None:
        del place[last]
    else:
        place[last] = to
    return tree


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("type",), "pod"),
        (("category",), "pictures"),
        (("title",), None),
        (("iconUrl",), "icon.png"),
        (("idleTimeout",), 5),
        (("config", "containerDiskInGb"), "30"),
        (("config", "gpuIds"), "NVIDIA L40S"),
        (("config", "gpuIds"), "ADA_24,-AMPERE_24"),
        (("config", "allowedCudaVersions"), ["13.0", "12.8"]),
        (("config", "allowedCudaVersions"), ["cuda 12.8"]),
        (("config", "env", 0, "value"), "fixed"),
        (("config", "env", 0, "input", "type"), "secret"),
        (("config", "env", 0, "input", "default"), None),
        (("config", "env", 3, "input", "default"), 0),
        (("config", "env", 4, "input", "default"), "neither"),
        (("config", "presets", 0, "defaults", "UNKNOWN"), "x"),
    ],
)
def test_the_rules_name_what_the_hub_would_refuse(path: tuple[Any, ...], value: Any) -> None:
    assert len(problems_of_hub(changed(".runpod/hub.json", *path, to=value))) >= 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tests", 0, "input"), {}),
        (("tests", 0, "input"), {"input": {"prompt": "x"}}),
        (("tests", 0, "name"), None),
        (("tests", 0, "timeout"), "10000"),
        (("config", "gpuTypeId"), "ADA_48_PRO"),
        (("config", "env", 0, "value"), 5),
    ],
)
def test_the_rules_name_what_the_hubs_tests_would_fail_on(
    path: tuple[Any, ...], value: Any
) -> None:
    assert len(problems_of_tests(changed(".runpod/tests.json", *path, to=value))) >= 1


def test_the_hub_names_fitting_gpus_and_drivers() -> None:
    hub, tests = read(".runpod/hub.json")["config"], read(".runpod/tests.json")["config"]
    # The pool of the 48 GB Ada cards: RTX 6000 Ada, L40, L40S.
    assert hub["gpuIds"].split(",")[0] == "ADA_48_PRO"
    assert tests["gpuTypeId"] == "NVIDIA RTX 6000 Ada Generation"
    # torch 2.7.0 for CUDA 12.8 has code for 7.5, 8.0, 8.6, 9.0, 10.0 and 12.0, by
    # https://github.com/moi90/pytorch_compute_capabilities (table.md); 12.0 is Blackwell's.
    assert {"ADA_32_PRO", "BLACKWELL_96"} <= set(hub["gpuIds"].split(","))
    # A driver runs what was built for its own CUDA or an older one, and the list is exact: these
    # are the versions of RunPod's hosts that others have read from its catalogue in October 2026.
    hosts = ["12.8", "12.9", "13.0", "13.1", "13.2", "13.3"]
    assert hub["allowedCudaVersions"] == tests["allowedCudaVersions"] == hosts
