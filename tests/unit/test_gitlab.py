"""The documented pipeline for GitLab is valid and runs the matrix with real tasks."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.host.config.load import ROOT
from scripts.host.matrix import matrix
from tests.support.ci import check, checkout, noted, shell, stage


@pytest.fixture(scope="module")
def parent() -> dict[str, Any]:
    """The documented `.gitlab-ci.yml`."""
    return blocks()[0]


@pytest.fixture(scope="module")
def child() -> dict[str, Any]:
    """The documented `.gitlab/run.yml`."""
    return blocks()[1]


def blocks() -> tuple[dict[str, Any], dict[str, Any]]:
    page = (ROOT / "docs/how-to/ci.md").read_text()
    first, second = re.findall(r"^```yaml \.gitlab\S+\n(.*?)^```", page, re.M | re.S)
    return yaml.safe_load(first), yaml.safe_load(second)


@pytest.fixture(scope="module")
def lists(parent: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The lists that the pipeline's first job makes for the child."""
    folder = checkout(tmp_path_factory.mktemp("gitlab"))
    shell("\n".join(parent["matrix"]["script"]), folder, {})
    assert parent["matrix"]["artifacts"] == {"paths": ["matrix.yml"]}
    return yaml.safe_load((folder / "matrix.yml").read_text())


def test_the_child_pipeline_gets_the_matrix(lists: dict[str, Any]) -> None:
    found = asdict(matrix())
    assert lists == {
        f".{name}": {"parallel": {"matrix": [{"NAME": list(found[name])}]}}
        for name in ("python", "variants", "cpu", "gpu")
    }


def test_every_job_uses_a_list_and_every_variant_is_pushed(
    lists: dict[str, Any], child: dict[str, Any]
) -> None:
    assert {job["extends"] for job in child.values()} == set(lists)
    ships = [name for name, job in child.items() if "invoke push" in "".join(job["script"])]
    assert [child[name]["extends"] for name in ships] == [".cpu", ".gpu"]


def test_both_files_match_gitlabs_schema(
    parent: dict[str, Any], child: dict[str, Any], lists: dict[str, Any], tmp_path: Path
) -> None:
    for name, tree in {"parent.yml": parent, "child.yml": {**lists, **child}}.items():
        (tmp_path / name).write_text(yaml.safe_dump(tree))
        command = ["check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", name]
        subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=True)


def test_every_command_exists(
    parent: dict[str, Any], child: dict[str, Any], tmp_path: Path
) -> None:
    staged = stage(tmp_path, matrix="[]\n")
    jobs = [job for job in (*parent.values(), *child.values()) if "script" in job]
    for job in jobs:
        shell("\n".join(job["script"]), staged, {"NAME": "cpu"})
    calls = noted(staged)
    assert len(calls) > len(jobs)
    for command in calls:
        check(command)
