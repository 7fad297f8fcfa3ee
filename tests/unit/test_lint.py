"""`invoke lint`: every tool really runs, over a small checkout with one planted flaw for each."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT
from scripts.host.lint.files import is_dockerfile, is_shell_line
from scripts.host.lint.problems import Problem, Verdict
from scripts.host.lint.run_linters import judge, lint, shown
from scripts.host.lint.sarif import sarif

Checkout = Callable[..., Path]

FLAWS = {
    "ruff": ("code.py", "import os\n", "F401"),
    "ruff-format": ("code.py", "x=1\n", "unformatted"),
    "mypy": ("code.py", 'x: int = "text"\n', "assignment"),
    "hadolint": ("deep/Dockerfile.test", "FROM debian\n", "DL3006"),
    "shellcheck": ("scripts/tool", "#!/bin/sh\necho $1\n", "SC2086"),
    "workflows": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - use: b\n",
        "workflow-schema",
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
    "config": ("config.yaml", "image: {repository: here}\nvariants: {a: {}}\n", "config"),
    "schema": ("config.schema.json", "{}\n", "schema-stale"),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Makes a git checkout whose config is the project's own, with given files over it."""
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)

    def make(**files: str) -> Path:
        for name in ("config.yaml", "config.schema.json"):
            shutil.copy(ROOT / name, tmp_path / name)
        (tmp_path / "pyproject.toml").write_text("[tool.mypy]\nfiles = ['.']\n")
        (tmp_path / "code.py").write_text("x: int = 1\n")
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        return tmp_path

    return make


def problems(verdicts: tuple[Verdict, ...]) -> dict[str, list[tuple[str, str]]]:
    return {
        verdict.tool: [(problem.path, problem.rule) for problem in verdict.problems]
        for verdict in verdicts
    }


def test_a_clean_checkout_passes_every_linter(checkout: Checkout) -> None:
    verdicts = lint(checkout())
    assert problems(verdicts) == {tool: [] for tool in FLAWS}
    judge(verdicts)


@pytest.mark.parametrize("tool", FLAWS)
def test_each_linter_finds_its_flaw_in_its_file(checkout: Checkout, tool: str) -> None:
    name, text, rule = FLAWS[tool]
    (verdict,) = lint(checkout(**{name: text}), only=[tool])
    assert (name, rule) in problems((verdict,))[tool]
    with pytest.raises(UserError, match=tool):
        judge([verdict])


def test_one_linters_problems_do_not_hide_anothers(checkout: Checkout) -> None:
    root = checkout(**{"a.py": "import os\n", "Dockerfile": "FROM debian\n"})
    found = problems(lint(root))
    assert found["ruff"]
    assert found["hadolint"]


def test_a_workflow_problem_names_the_line_of_its_key(checkout: Checkout) -> None:
    name, text, _ = FLAWS["workflows"]
    (verdict,) = lint(checkout(**{name: text}), only=["workflows"])
    assert verdict.problems[0].line == 6


def test_a_workflow_that_is_not_yaml_names_the_broken_line(checkout: Checkout) -> None:
    root = checkout(**{".github/workflows/ci.yml": "on: push\njobs: [a\n"})
    (verdict,) = lint(root, only=["workflows"])
    assert [problem.rule for problem in verdict.problems] == ["workflow-syntax"]
    assert verdict.problems[0].line >= 2


def test_a_config_problem_names_its_line_and_every_variant_is_read(checkout: Checkout) -> None:
    text = (ROOT / "config.yaml").read_text().rstrip() + "\n  extra:\n    smoke: {stepz: 2}\n"
    (verdict,) = lint(checkout(**{"config.yaml": text}), only=["config"])
    (problem,) = verdict.problems
    assert (problem.path, problem.line) == ("config.yaml", text.count("\n"))
    assert "smoke.stepz" in problem.message


def test_a_linter_that_cannot_run_is_a_problem_not_a_pass(checkout: Checkout) -> None:
    root = checkout(**{"pyproject.toml": "[tool.mypy]\nfiles = ['absent']\n"})
    (verdict,) = lint(root, only=["mypy"])
    assert [problem.rule for problem in verdict.problems] == ["not-run"]


def test_what_git_ignores_is_not_linted(checkout: Checkout) -> None:
    root = checkout(**{"Dockerfile": "FROM debian\n", ".gitignore": "Dockerfile\n"})
    (verdict,) = lint(root, only=["hadolint"])
    assert not verdict.problems


def test_fix_mends_style_shell_quoting_and_a_stale_schema(checkout: Checkout) -> None:
    mendable = {
        "code.py": "import os\nx=1\n",
        "tool.sh": "#!/bin/sh\necho $1\n",
        "config.schema.json": "{}\n",
    }
    root = checkout(**mendable)
    verdicts = lint(root, only=["ruff", "ruff-format", "shellcheck", "schema"], fix=True)
    judge(verdicts)
    assert (root / "code.py").read_text().strip() == "x = 1"
    assert 'echo "$1"' in (root / "tool.sh").read_text()


def test_without_fix_no_file_changes(checkout: Checkout) -> None:
    root = checkout(**{"code.py": "import os\nx=1\n"})
    lint(root, only=["ruff", "ruff-format"])
    assert (root / "code.py").read_text() == "import os\nx=1\n"


def test_an_unknown_linter_is_named_with_those_there_are(checkout: Checkout) -> None:
    with pytest.raises(UserError, match=r"no linter flake8.*ruff, ruff-format"):
        lint(checkout(), only=["flake8"])


def test_outside_a_git_checkout_lint_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git cannot list"):
        lint(tmp_path)


def test_a_finding_of_zizmor_stands_at_its_line_with_its_grade(checkout: Checkout) -> None:
    name, text, _ = FLAWS["zizmor"]
    (verdict,) = lint(checkout(**{name: text}), only=["zizmor"])
    [found] = [problem for problem in verdict.problems if problem.rule == "unpinned-uses"]
    assert (found.line, found.level) == (6, "error")
    assert found.help_url.startswith("https://docs.zizmor.sh/")


def test_findings_are_grouped_by_linter() -> None:
    verdicts = (
        Verdict("ruff", (Problem("a.py", 3, 1, "F401", "unused"),)),
        Verdict("mypy", ()),
        Verdict("shellcheck", (), 0),
    )
    assert shown(verdicts) == (
        "ruff: 1 problem\n  a.py:3:1: F401 unused\nmypy: clean\nshellcheck: nothing to lint"
    )


def test_sarif_points_into_the_checkout_and_indexes_its_rules() -> None:
    verdict = Verdict(
        "hadolint",
        (
            Problem("Dockerfile", 1, 1, "DL3006", "tag it", "warning", "https://example.org"),
            Problem("a folder/Dockerfile", 2, 5, "DL1000", "what is this"),
        ),
    )
    log = json.loads(sarif([verdict]))
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert log["version"] == "2.1.0"
    assert run["tool"]["driver"]["name"] == "hadolint"
    for result, problem in zip(run["results"], verdict.problems, strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == problem.rule
        assert place["artifactLocation"] == {
            "uri": problem.path.replace(" ", "%20"),
            "uriBaseId": "%SRCROOT%",
        }
        assert place["region"] == {"startLine": problem.line, "startColumn": problem.column}
        assert result["level"] == problem.level


@pytest.mark.parametrize(
    ("line", "is_shell"),
    [
        ("#!/bin/sh\n", True),
        ("#!/usr/bin/env bash\n", True),
        ("#!/bin/ash -e\n", True),
        ("#!/usr/bin/env python3\n", False),
        ("echo sh\n", False),
    ],
)
def test_a_script_is_known_by_its_first_line(line: str, is_shell: bool) -> None:
    assert is_shell_line(line) is is_shell


def test_recipes_are_known_by_their_names() -> None:
    names = ["Dockerfile", "a/Dockerfile.gpu", "a/gpu.Dockerfile", "Dockerfile_notes", "docker.py"]
    assert [name for name in names if is_dockerfile(name)] == names[:3]
