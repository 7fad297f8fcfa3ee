"""`invoke doctor` with an engine, a built image, and stand-ins for the outside sources."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.common.gpu.gpu_facts import TorchFacts
from scripts.host.doctor.doctor_facts import read_image_torch
from scripts.host.engine.client import client
from tests.support.images import base_download
from tests.support.running import invoke

Python = Callable[[str], str]


@pytest.fixture
def image() -> Iterator[Python]:
    """Make images whose Python is a shell script, and remove them afterwards."""
    made: list[str] = []

    def make(script: str) -> str:
        recipe = (
            f"FROM {base_download()}\nRUN printf '#!/bin/sh\\n{script}\\n' >/p && chmod +x /p\n"
        )
        command = ["docker", "buildx", "build", "--quiet", "--load", "-"]
        done = subprocess.run(
            command,
            input=f"{recipe}ENV WEBUI_PYTHON=/p\n",
            capture_output=True,
            text=True,
            check=True,
        )
        made.append(done.stdout.strip())
        return made[-1]

    yield make
    for each in made:
        client().images.remove(each, force=True)


def test_image_torch_is_read_and_no_container_stays(image: Python) -> None:
    facts = '{\\\\"cuda\\\\": \\\\"12.8\\\\", \\\\"archs\\\\": [\\\\"sm_80\\\\", \\\\"sm_90\\\\"]}'
    reference = image(f'echo "a warning first"; echo "{facts}"')
    expected = TorchFacts(cuda="12.8", archs=("sm_80", "sm_90"))
    assert read_image_torch(client(), reference) == expected
    assert client().containers.list(all=True, filters={"ancestor": reference}) == []


def test_broken_torch_gives_its_reason(image: Python) -> None:
    reference = image('echo "ImportError: libcudart.so.12" >&2; exit 1')
    torch = read_image_torch(client(), reference)
    assert torch.archs == ()
    assert torch.error == "cannot import torch: ImportError: libcudart.so.12"
    assert client().containers.list(all=True, filters={"ancestor": reference}) == []


def test_missing_image_gives_the_reason() -> None:
    torch = read_image_torch(client(), "standin.invalid/absent:1")
    assert torch.archs == ()
    assert torch.error == "there is no such image"


@pytest.mark.slow
def test_built_image_and_reachable_sources_pass(
    image_config: Path, cuda_image: str, model_store: Path
) -> None:
    assert cuda_image
    answer = invoke("doctor", "--json", config=image_config, MODELS_STORE=str(model_store))
    rows = {row["check"]: row for row in json.loads(answer.stdout)}
    assert answer.returncode == 0, answer.stdout
    assert rows["mirrors.github"]["level"] == rows["mirrors.huggingface"]["level"] == "ok"
    assert rows["image"]["level"] == "ok"
    assert "8.9 runs sm_" in rows["image"]["evidence"]
