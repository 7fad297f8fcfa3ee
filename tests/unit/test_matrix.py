"""`invoke matrix`: CI runs what the config and pyproject.toml say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import noxfile
from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.matrix import matrix, pythons


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    for name in ("config.yaml", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_every_variant_is_built_and_those_with_cuda_want_a_gpu(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text(
        "variants: {tiny: {build: {accelerator: cpu}}, fast: {smoke: {steps: 2}}}\n"
    )
    found = matrix(checkout)
    assert {"cuda128", "cpu", "tiny", "fast"} <= set(found.variants)
    assert {"cuda128", "fast"} <= set(found.gpu)
    assert set(found.cpu) == set(found.variants) - set(found.gpu) == {"cpu", "tiny"}


def test_a_repository_is_named_with_its_registry(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text(
        "image: {repository: me/worker}\nvariants: {cpu: {image: {repository: ghcr.io/me/small}}}\n"
    )
    found = matrix(checkout).repositories
    assert found["cuda128"] == "docker.io/me/worker"
    # A variant's block lies below config.local.yaml's own keys.
    assert found["cpu"] == "docker.io/me/worker"


def test_machines_are_those_of_the_config(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text("ci: {runner: [big], gpu_runner: []}\n")
    found = matrix(checkout)
    assert (found.runner, found.gpu_runner) == (("big",), ())


@pytest.mark.parametrize("words", [(), ("--only", "python")])
def test_the_task_prints_one_line_of_json(words: tuple[str, ...]) -> None:
    answer = task(*words)
    assert answer.stdout.count("\n") == 1
    found = json.loads(answer.stdout)
    assert (found if words else found["python"]) == list(pythons())


def test_a_list_that_there_is_not_is_named_with_those_there_are() -> None:
    answer = task("--only", "rust")
    assert answer.returncode == 1
    assert "the matrix has no rust - one of: python, variants" in answer.stderr


def task(*words: str) -> subprocess.CompletedProcess[str]:
    """`invoke matrix`, really run."""
    command = [sys.executable, "-m", "invoke", "matrix", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_supported_pythons_are_said_in_one_place() -> None:
    assert list(pythons()) == noxfile.PYTHONS


def test_another_range_is_counted_out(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('requires-python = ">=3.9,<3.11"\n')
    assert pythons(checkout) == ("3.9", "3.10")


def test_a_range_without_end_is_a_failure(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('requires-python = ">=3.10"\n')
    with pytest.raises(UserError, match=r"pyproject\.toml"):
        pythons(checkout)
