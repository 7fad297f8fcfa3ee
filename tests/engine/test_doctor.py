"""`invoke doctor` where there is an engine: it asks a built image, and stand-ins for the rest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.common.gpu.torch_facts import TorchFacts
from scripts.host.doctor.gather import torch_of
from scripts.host.engine.client import client
from tests.support.images import base_download
from tests.support.running import invoke

Python = Callable[[str], str]


@pytest.fixture
def image() -> Iterator[Python]:
    """Makes images whose Python is a given shell script; removes them afterwards."""
    made: list[str] = []

    def make(script: str) -> str:
        recipe = (
            f"FROM {base_download()}\nRUN printf '#!/bin/sh\\n{script}\\n' >/p && chmod +x /p\n"
        )
        words = ["docker", "buildx", "build", "--quiet", "--load", "-"]
        done = subprocess.run(
            words,
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


def test_the_images_torch_is_asked_and_no_container_stays(image: Python) -> None:
    facts = '{\\\\"cuda\\\\": \\\\"12.8\\\\", \\\\"archs\\\\": [\\\\"sm_80\\\\", \\\\"sm_90\\\\"]}'
    reference = image(f'echo "a warning first"; echo "{facts}"')
    assert torch_of(client(), reference) == (TorchFacts(cuda="12.8", archs=("sm_80", "sm_90")), "")
    assert client().containers.list(all=True, filters={"ancestor": reference}) == []


def test_an_image_whose_torch_breaks_says_why(image: Python) -> None:
    reference = image('echo "ImportError: libcudart.so.12" >&2; exit 1')
    torch, trouble = torch_of(client(), reference)
    assert torch is None
    assert trouble == "cannot import torch: ImportError: libcudart.so.12"
    assert client().containers.list(all=True, filters={"ancestor": reference}) == []


def test_an_image_that_is_gone_is_told() -> None:
    torch, trouble = torch_of(client(), "standin.invalid/absent:1")
    assert torch is None
    assert trouble == "there is no such image"


@pytest.mark.slow
def test_with_every_source_up_and_the_image_built_nothing_fails(
    image_config: Path, cuda_image: str, model_store: Path
) -> None:
    assert cuda_image
    answer = invoke("doctor", "--json", config=image_config, MODELS_STORE=str(model_store))
    rows = {row["check"]: row for row in json.loads(answer.stdout)}
    assert answer.returncode == 0, answer.stdout
    assert rows["mirrors.github"]["level"] == rows["mirrors.huggingface"]["level"] == "ok"
    assert rows["image"]["level"] == "ok"
    assert "8.9 runs sm_" in rows["image"]["evidence"]
