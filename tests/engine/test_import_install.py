"""The folder of a WebUI becomes an image that has its models by their names, and may be pushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.checks.smoke_report import SmokeReport
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from scripts.host.registry.tested_image import check_tested
from tests.support.install import (
    EMBEDDING,
    LORA,
    VAE,
    safetensors,
    tree_state,
    upscaler,
    write,
)
from tests.support.running import copy_of_the_checkout, invoke, output

PYTHON = "/opt/runpod/bin/python"

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def webui(tmp_path: Path, checkpoint: Path) -> Path:
    """The folder of a WebUI with a checkpoint that draws, and models of other kinds."""
    folder = tmp_path / "webui"
    models = folder / "models"
    drawing = checkpoint.read_bytes()
    for name in ("deliberate_v3", "art/second"):
        # Other bytes at the end: other weights.
        write(models / f"Stable-diffusion/{name}.safetensors", drawing[:-8] + os.urandom(8))
    write(models / "Stable-diffusion/deliberate_v3.vae.safetensors", safetensors(VAE))
    write(models / "Lora/people/ann.safetensors", safetensors(LORA))
    write(models / "ESRGAN/4x-sharp.pth", upscaler())
    write(folder / "embeddings/bad.safetensors", safetensors(EMBEDDING))
    write(folder / "webui.py", "raise SystemExit('the install was run')\n")
    write(folder / "CHANGELOG.md", "## 1.9.3\n")
    write(folder / "config.json", json.dumps({"sd_model_checkpoint": "deliberate_v3.safetensors"}))
    return folder


def test_an_imported_install_is_built_and_passes_smoke(
    webui: Path, image_config: Path, model_store: Path, tmp_path: Path
) -> None:
    before = tree_state(webui)
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    config = tmp_path / "config.yaml"
    tree = yaml.safe_load(image_config.read_text())
    del tree["models"]  # those of the checkout's config.yaml, and of the import
    tree["image"] |= {"tags": ["imported"], "moving_tags": []}
    config.write_text(yaml.safe_dump(tree))

    def run(*arguments: str) -> str:
        answer = invoke(
            *(*arguments, "--variant", "cpu"),
            config=config,
            root=checkout,
            MODELS_STORE=str(model_store),
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    assert "deliberate_v3.safetensors is loaded at start" in run("import", str(webui), "--offline")
    run("build")
    report = smoke(checkout, config, model_store)
    checks = {check.name: check for check in report.checks}
    assert report.passed, [check for check in report.checks if check.outcome == "failed"]
    assert "chosen: deliberate_v3.safetensors" in checks["checkpoint is listed and chosen"].evidence
    assert checks["checkpoint second.safetensors draws"].outcome == "passed"
    for name in (
        "VAE deliberate_v3.vae.safetensors changes the image",
        "LoRA ann changes the image",
    ):
        assert checks[name].outcome == "passed"
    links = output(report.image_id, "-m", "scripts.container", "models", entrypoint=PYTHON)
    assert "deliberate_v3.safetensors" in next(
        line for line in links.splitlines() if line.endswith("loaded at start")
    )
    loaded = load("cpu", root=checkout, environment={"IMAGE_CONFIG": str(config)})
    assert check_tested(resolve(loaded), report.image_id) is None
    assert tree_state(webui) == before


def smoke(checkout: Path, config: Path, store: Path) -> SmokeReport:
    """Run `nox -s smoke` in a checkout, whose image is the one it built last."""
    subprocess.run(
        [sys.executable, "-m", "nox", "-s", "smoke", "--", "--variant", "cpu"],
        cwd=checkout,
        env={**os.environ, "IMAGE_CONFIG": str(config), "MODELS_STORE": str(store)},
        capture_output=True,
        timeout=280,
        check=False,
    )
    report = checkout / "reports/smoke-cpu.json"
    return SmokeReport.model_validate_json(report.read_text(encoding="utf-8"))
