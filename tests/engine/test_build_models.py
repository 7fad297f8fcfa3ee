"""The image has the models of the present config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.fetch.hashing import sha256_of
from tests.support.inputs import make_checkpoint
from tests.support.running import invoke, output

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAG = "a1111-worker-test:models"


def config_with(checkpoint: Path, config: Path, folder: Path) -> Path:
    """Write the config with another checkpoint, a local file."""
    tree: dict[str, Any] = yaml.safe_load(config.read_text())
    others = [model for model in tree["models"] if model["path"] != "/model.safetensors"]
    model = {"name": "checkpoint", "source": {"url": checkpoint.as_uri()}}
    model |= {"path": "/model.safetensors", "sha256": sha256_of(checkpoint)}
    named = folder / "config.yaml"
    named.write_text(yaml.safe_dump({**tree, "models": [model, *others]}))
    return named


def test_a_model_of_the_same_size_replaces_the_first(
    image_config: Path, model_store: Path, tmp_path: Path
) -> None:
    for seed in (1, 2):
        checkpoint = make_checkpoint(tmp_path / "one.safetensors", seed=seed)
        config = config_with(checkpoint, image_config, tmp_path)
        command = ("build", "--variant", "cpu", "--tag", TAG)
        answer = invoke(*command, config=config, MODELS_STORE=str(model_store))
        assert answer.returncode == 0, answer.stderr
        digest, _ = output(TAG, "/model.safetensors", entrypoint="sha256sum").split()
        assert digest == sha256_of(checkpoint)


def test_an_image_may_hold_no_checkpoint(
    image_config: Path, model_store: Path, tmp_path: Path
) -> None:
    tree: dict[str, Any] = yaml.safe_load(image_config.read_text())
    for model in tree["models"]:
        if model["path"] == "/model.safetensors":
            model["placement"] = "cache"
            source = model["source"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    command = ("build", "--variant", "cpu", "--tag", TAG)
    answer = invoke(*command, config=tmp_path / "config.yaml", MODELS_STORE=str(model_store))
    assert answer.returncode == 0, answer.stderr
    shown = "ls /; echo $MODEL_PATH; cat /opt/worker/cached-models.json"
    text = output(TAG, "-c", shown, entrypoint="sh")
    assert "model.safetensors" not in text.split("hub:")[0]
    name = f"hub:{source['hub']}/{source['file']}@{source['revision']}"
    assert text.count(name) == 2  # MODEL_PATH, and what that file must be
    assert '"sha256": ""' not in text
