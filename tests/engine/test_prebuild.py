"""A first build starts before its models are downloaded."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from scripts.common.fetch.hashing import sha256_of
from tests.support.hub import HubServer
from tests.support.running import copy_of_the_checkout, invoke, output
from tests.support.serving import running

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAG = "a1111-worker-test:ahead"
SLOWLY = 200_000  # bytes a second: ten seconds for the checkpoint


def test_steps_without_models_run_during_the_download(
    cpu_image: str,  # noqa: ARG001 - only the edited script is left to do
    image_config: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    copy = copy_of_the_checkout(tmp_path / "checkout")
    script = copy / "scripts/container/__main__.py"
    script.write_text(f"{script.read_text()}\n# {uuid.uuid4()}\n")
    with running(HubServer(checkpoint.parents[2])) as hub:
        hub.rate = SLOWLY
        answer = invoke(
            *("build", "--variant", "cpu", "--tag", TAG, "-D", f"mirrors.huggingface={hub.url}"),
            config=image_config,
            root=copy,
            MODELS_STORE=str(tmp_path / "store"),
        )
    assert answer.returncode == 0, answer.stderr
    report = json.loads((copy / "reports/build.json").read_text())
    ran = [s for s in report["steps"] if s["instruction"].startswith("RUN") and not s["cached"]]
    assert [(step["stage"], step["ahead"]) for step in ran] == [("worker", True)]
    digest, _ = output(TAG, "/model.safetensors", entrypoint="sha256sum").split()
    assert digest == sha256_of(checkpoint)
