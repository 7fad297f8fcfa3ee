"""`invoke matrix`: CI's lists follow the config and pyproject.toml."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from nox import project

import noxfile
from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.matrix import matrix
from tests.support.running import error_line, invoke


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("config.yaml", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_variants_are_listed_by_accelerator(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text(
        "variants: {tiny: {build: {accelerator: cpu}}, fast: {smoke: {steps: 2}}}\n"
    )
    found = matrix(checkout)
    assert {"cuda128", "cpu", "tiny", "fast"} <= set(found.variants)
    assert {"cuda128", "fast"} <= set(found.gpu)
    assert (
        set(found.cpu)
        == set(found.variants) - set(found.gpu)
        == {"cpu", "cpu-a1111-v1.10.1", "tiny"}
    )


def test_a_variant_without_runner_is_left_out(checkout: Path) -> None:
    found = matrix(checkout)
    assert not {"full", "sdxl"} & {*found.variants, *found.gpu, *found.repositories}
    (checkout / "config.local.yaml").write_text("ci: {runner: [big-disk]}\n")
    assert {"full", "sdxl"} <= set(matrix(checkout).variants)


def test_repositories_have_their_registry(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text(
        "image: {repository: me/worker}\nvariants: {cpu: {image: {repository: ghcr.io/me/small}}}\n"
    )
    found = matrix(checkout).repositories
    assert found["cuda128"] == "docker.io/me/worker"
    # A variant's block lies below config.local.yaml's own keys.
    assert found["cpu"] == "docker.io/me/worker"


def test_runners_are_those_of_the_config(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text("ci: {runner: [big], gpu_runner: []}\n")
    found = matrix(checkout)
    assert (found.runner, found.gpu_runner) == (("big",), ())


@pytest.mark.parametrize("options", [(), ("--only", "python")])
def test_the_task_prints_one_line_of_json(options: tuple[str, ...]) -> None:
    answer = invoke("matrix", *options)
    assert answer.stdout.count("\n") == 1
    found = json.loads(answer.stdout)
    assert (found if options else found["python"]) == noxfile.PYTHONS


def test_an_unknown_list_is_refused_with_the_known_ones() -> None:
    error = error_line(invoke("matrix", "--only", "rust"))
    assert error.startswith("error: the matrix has no rust\nhint: one of: python, variants")


def test_python_versions_are_those_of_nox_within_requires_python(checkout: Path) -> None:
    requires = project.load_toml(checkout / "pyproject.toml")["project"]["requires-python"]
    first, last = re.findall(r"3\.(\d+)", requires)
    expected = [f"3.{minor}" for minor in range(int(first), int(last))]
    assert list(matrix(checkout).python) == noxfile.PYTHONS == expected


def test_a_project_without_python_versions_is_refused(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(UserError, match=r"No Python version.*pyproject\.toml"):
        matrix(checkout)
