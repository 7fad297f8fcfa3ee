"""`invoke lint`: every tool really runs, over a small checkout with one problem for each."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.lint.lint_files import find_files
from scripts.host.lint.linters import (
    LintResult,
    format_text,
    lint,
    merge_sarif,
    refuse_failed,
)

Checkout = Callable[..., Path]

PROBLEMS = {
    "ruff": ("code.py", "import os\n", "F401"),
    "ruff-format": ("code.py", "x=1\n", "would be reformatted"),
    "mypy": ("code.py", 'x: int = "text"\n', "assignment"),
    "imports": ("package/low.py", "import package.high\n", "package.low -> package.high (l.1)"),
    "hadolint": ("deep/Dockerfile.test", "FROM debian\n", "DL3006"),
    "shellcheck": ("scripts/tool", "#!/bin/sh\necho $1\n", "SC2086"),
    "workflows": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - use: b\n",
        "'uses' is a required property",
    ),
    "actionlint": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo $1\n",
        "shellcheck",
    ),
    "zizmor": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: a/b@v1\n",
        "unpinned-uses",
    ),
    "config": ("config.yaml", "image: {repository: here}\nvariants: {a: {}}\n", "config.yaml"),
    "schema": ("config.schema.json", "{}\n", "is stale"),
}


PYPROJECT = """
[tool.mypy]
files = ["."]

[tool.importlinter]
root_package = "package"

[[tool.importlinter.contracts]]
name = "high imports low"
type = "layers"
layers = ["package.high", "package.low"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Make a git checkout whose config is the project's own, with given files over it."""

    def make(**files: str) -> Path:
        for name in ("config.yaml", "config.schema.json"):
            shutil.copy(ROOT / name, tmp_path / name)
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        (tmp_path / "code.py").write_text("x: int = 1\n")
        (tmp_path / "package").mkdir()
        for name in ("__init__", "high", "low"):
            (tmp_path / "package" / f"{name}.py").touch()
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        return tmp_path

    return make


def failed(results: tuple[LintResult, ...]) -> set[str]:
    return {result.linter for result in results if not result.passed}


def test_clean_checkout_passes_every_linter(checkout: Checkout) -> None:
    results = lint(checkout())
    assert [result.linter for result in results] == list(PROBLEMS)
    assert failed(results) == set()
    refuse_failed(results)


@pytest.mark.parametrize("tool", PROBLEMS)
def test_each_linter_shows_its_problem_and_fails(checkout: Checkout, tool: str) -> None:
    name, text, shown = PROBLEMS[tool]
    (result,) = lint(checkout(**{name: text}), only=[tool])
    assert shown in result.output
    assert shown in format_text([result])
    with pytest.raises(UserError, match=tool):
        refuse_failed([result])


def test_every_failed_linter_is_shown(checkout: Checkout) -> None:
    root = checkout(**{"a.py": "import os\n", "Dockerfile": "FROM debian\n"})
    assert failed(lint(root)) == {"ruff", "hadolint"}


def test_workflow_that_is_not_yaml_fails(checkout: Checkout) -> None:
    root = checkout(**{".github/workflows/ci.yml": "on: push\njobs: [a\n"})
    assert failed(lint(root, only=["workflows", "actionlint"])) == {"workflows", "actionlint"}


def test_config_problem_names_its_line_in_every_variant(checkout: Checkout) -> None:
    text = (ROOT / "config.yaml").read_text().rstrip() + "\n  extra:\n    smoke: {stepz: 2}\n"
    (result,) = lint(checkout(**{"config.yaml": text}), only=["config"])
    assert f"config.yaml:{text.count(chr(10))}" in result.output
    assert "smoke.stepz" in result.output


def test_linter_that_cannot_run_fails(checkout: Checkout) -> None:
    root = checkout(**{"pyproject.toml": "[tool.mypy]\nfiles = ['absent']\n"})
    assert failed(lint(root, only=["mypy"])) == {"mypy"}


def test_files_ignored_by_git_are_not_linted(checkout: Checkout) -> None:
    root = checkout(**{"Dockerfile": "FROM debian\n", ".gitignore": "Dockerfile\n"})
    (result,) = lint(root, only=["hadolint"])
    assert not result.ran


def test_fix_repairs_style_shell_quoting_and_a_stale_schema(checkout: Checkout) -> None:
    fixable = {
        "code.py": "import os\nx=1\n",
        "tool.sh": "#!/bin/sh\necho $1\n",
        "config.schema.json": "{}\n",
    }
    root = checkout(**fixable)
    refuse_failed(lint(root, only=["ruff", "ruff-format", "shellcheck", "schema"], fix=True))
    assert (root / "code.py").read_text().strip() == "x = 1"
    assert 'echo "$1"' in (root / "tool.sh").read_text()


def test_no_file_changes_without_fix(checkout: Checkout) -> None:
    root = checkout(**{"code.py": "import os\nx=1\n"})
    lint(root, only=["ruff", "ruff-format"])
    assert (root / "code.py").read_text() == "import os\nx=1\n"


def test_unknown_linter_error_lists_the_known_ones(checkout: Checkout) -> None:
    with pytest.raises(UserError, match=r"no linter flake8.*ruff, ruff-format"):
        lint(checkout(), only=["flake8"])


def test_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git cannot list"):
        lint(tmp_path)


def test_text_is_one_line_a_linter_and_the_output_of_failed_ones() -> None:
    results = (
        LintResult("ruff", passed=False, output="a.py:3:1: F401 unused\n"),
        LintResult("mypy", passed=True, output="Success"),
        LintResult("shellcheck", passed=True, ran=False),
    )
    assert format_text(results) == (
        "ruff: failed\na.py:3:1: F401 unused\nmypy: passed\nshellcheck: nothing to lint"
    )


def test_sarif_merges_runs_with_paths_in_the_checkout(checkout: Checkout) -> None:
    name, text, _ = PROBLEMS["zizmor"]
    root = checkout(
        **{"a.py": "import os\nx=1\n", "a folder/Dockerfile": "FROM debian\n", name: text}
    )
    log = json.loads(merge_sarif(root))
    assert log["version"] == "2.1.0"
    found = {
        run["automationDetails"]["id"]: {
            place["physicalLocation"]["artifactLocation"]["uri"]
            for result in run["results"]
            for place in result["locations"]
        }
        for run in log["runs"]
    }
    assert found == {
        "invoke-lint/ruff/": {"a.py"},
        "invoke-lint/ruff-format/": {"a.py"},
        "invoke-lint/hadolint/": {"a folder/Dockerfile"},
        "invoke-lint/zizmor/": {name},
    }


def test_shell_scripts_and_dockerfiles_are_found_by_name_or_first_line(checkout: Checkout) -> None:
    dockerfiles = ["Dockerfile", "a/Dockerfile.gpu", "a/gpu.Dockerfile"]
    scripts = {
        "ash": "#!/bin/ash -e\n",
        "bash": "#!/usr/bin/env bash\n",
        "sh": "#!/bin/sh\n",
        "tool.sh": "",
    }
    others = {
        "Dockerfile_notes": "",
        "docker.py": "",
        "py": "#!/usr/bin/env python3\n",
        "x": "echo sh\n",
    }
    root = checkout(**scripts, **others, **dict.fromkeys(dockerfiles, ""))
    files = find_files(root)
    assert files["dockerfiles"] == dockerfiles
    assert files["shell"] == [*scripts]
