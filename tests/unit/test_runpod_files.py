"""RunPod's own files say what the worker understands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.container.serverless.job_input import parse_job_input
from scripts.container.settings import VARIABLES, Settings
from scripts.host.config.load import ROOT
from scripts.host.pip_cache import CacheLocation, docker_argv


def read(name: str) -> Any:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_every_job_in_runpods_tests_is_one_the_worker_understands() -> None:
    for test in read(".runpod/tests.json")["tests"]:
        order = parse_job_input(test["input"], 600)
        assert not order.warnings
        assert test["timeout"] >= 1000, "RunPod counts milliseconds"


def test_the_sdks_test_input_is_one_the_worker_understands() -> None:
    assert parse_job_input(read("test_input.json")["input"], 600).name == "txt2img"


def test_the_hubs_settings_are_variables_of_the_worker() -> None:
    config = read(".runpod/hub.json")["config"]
    for row in config["env"]:
        assert row["input"]["default"] == VARIABLES[row["key"]].default
    for preset in config["presets"]:
        Settings.from_environment(preset["defaults"])
        assert set(preset["defaults"]) <= set(VARIABLES)


def test_the_hub_offers_the_gpu_the_image_is_for_and_hosts_whose_driver_runs_it() -> None:
    hub, tests = read(".runpod/hub.json")["config"], read(".runpod/tests.json")["config"]
    # The pool of the 48 GB Ada cards: RTX 6000 Ada, L40, L40S. Pools and ids of cards:
    # https://docs.runpod.io/flash/configuration/gpu-types, https://docs.runpod.io/references/gpu-types
    assert hub["gpuIds"].split(",")[0] == "ADA_48_PRO"
    assert tests["gpuTypeId"] == "NVIDIA RTX 6000 Ada Generation"
    for versions in (hub["allowedCudaVersions"], tests["allowedCudaVersions"]):
        assert "12.8" in versions
        # A driver runs what was built for its own CUDA or an older one.
        assert all(tuple(map(int, version.split("."))) >= (12, 8) for version in versions)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            CacheLocation(container="worker"),
            "docker exec worker /opt/runpod/bin/python -m scripts.container pip-cache stats",
        ),
        (
            CacheLocation(volume="cache", image="worker:1"),
            "docker run --rm --volume cache:/runpod-volume --network none worker:1 pip-cache stats",
        ),
    ],
)
def test_the_cache_tasks_run_the_containers_own_tool(
    location: CacheLocation, expected: str
) -> None:
    assert " ".join(docker_argv(location, ["stats"])) == expected


def test_a_cache_must_be_named_exactly_once() -> None:
    with pytest.raises(Exception, match="one of: --container"):
        CacheLocation(container="a", path="/b")
