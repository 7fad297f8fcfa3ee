"""RunPod's own files agree with the worker."""

from __future__ import annotations

import json
from typing import Any

from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from scripts.container.settings import VARIABLES, Settings
from scripts.host.config.load import ROOT
from tests.support.releases import RecordedFacts


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
        assert row["input"]["default"] == VARIABLES[row["key"]].default
    for preset in config["presets"]:
        Settings.from_environment(preset["defaults"])
        assert set(preset["defaults"]) <= set(VARIABLES)


def test_the_hub_names_fitting_gpus_and_drivers() -> None:
    hub, tests = read(".runpod/hub.json")["config"], read(".runpod/tests.json")["config"]
    # The pool of the 48 GB Ada cards: RTX 6000 Ada, L40, L40S. Pools and ids of cards:
    # https://docs.runpod.io/flash/configuration/gpu-types, https://docs.runpod.io/references/gpu-types
    assert hub["gpuIds"].split(",")[0] == "ADA_48_PRO"
    assert tests["gpuTypeId"] == "NVIDIA RTX 6000 Ada Generation"
    for versions in (hub["allowedCudaVersions"], tests["allowedCudaVersions"]):
        assert "12.8" in versions
        # A driver runs what was built for its own CUDA or an older one.
        assert all(tuple(map(int, version.split("."))) >= (12, 8) for version in versions)
