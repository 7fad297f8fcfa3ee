"""`invoke matrix`: CI runs what the config and pyproject.toml say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import noxfile
from scripts.common.errors import Failure
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
    assert not {"cpu", "tiny"} & set(found.gpu)


def test_the_matrix_is_one_line_of_json(checkout: Path) -> None:
    text = matrix(checkout).as_json()
    assert "\n" not in text
    assert set(json.loads(text)) == {"python", "variants", "gpu"}


def test_the_supported_pythons_are_said_in_one_place() -> None:
    assert list(pythons()) == noxfile.PYTHONS


def test_another_range_is_counted_out(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('requires-python = ">=3.9,<3.11"\n')
    assert pythons(checkout) == ("3.9", "3.10")


def test_a_range_without_end_is_a_failure(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('requires-python = ">=3.10"\n')
    with pytest.raises(Failure, match=r"pyproject\.toml"):
        pythons(checkout)


def test_the_workflow_asks_for_lists_that_there_are(checkout: Path) -> None:
    keys = json.loads(matrix(checkout).as_json())
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for source in job.get("strategy", {}).get("matrix", {}).values():
                assert str(source).rpartition(".")[2].rstrip("} ") in keys
