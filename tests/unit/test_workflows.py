"""GitHub's workflows run the matrix of `invoke matrix`, with real tasks and options."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.host.config.load import ROOT, load
from scripts.host.lint.lint_files import find_files
from scripts.host.lint.linters import format_text, lint
from scripts.host.matrix import matrix
from tests.support.ci import check, checkout, noted, sessions, shell, stage

FOLDER = ROOT / ".github" / "workflows"
FLOWS: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))
}
JOBS = {(flow, name): job for flow, it in FLOWS.items() for name, job in it["jobs"].items()}
STEPS = [(*key, step) for key, job in JOBS.items() for step in job.get("steps", [])]
CALLS = {key: job for key, job in JOBS.items() if "uses" in job}

# Beyond reading the repository, as far as GitHub's tokens can be told apart.
SHIP = {"packages": "write", "id-token": "write", "attestations": "write"}
GRANTS = {
    ("ci", "findings"): {"security-events": "write"},
    ("ci", "try"): {"packages": "read"},
    ("ci", "image"): {"packages": "write"},
    ("ci", "gpu"): {"packages": "read"},
    ("release", "cpu"): SHIP,
    ("release", "gpu"): SHIP,
}

# Which list of the matrix, on which machines, proved by what.
IMAGES = {
    ("ci", "try"): ("variants", "runner", "smoke"),
    ("ci", "image"): ("variants", "runner", "smoke"),
    ("ci", "gpu"): ("gpu", "gpu_runner", "gpu_smoke"),
    ("release", "cpu"): ("cpu", "runner", "smoke"),
    ("release", "gpu"): ("gpu", "gpu_runner", "gpu_smoke"),
    ("weekly", "cold"): ("variants", "runner", "smoke"),
}


def step(flow: str, job: str, name: str) -> Any:
    """Return the step with that name or id."""
    steps = JOBS[flow, job]["steps"]
    return next(each for each in steps if name in (each.get("name"), each.get("id")))


def from_matrix(key: str) -> str:
    return f"fromJSON(needs.matrix.outputs.matrix).{key}"


def test_workflows_pass_their_linters() -> None:
    assert len(find_files(ROOT)["workflows"]) == len(FLOWS)
    results = lint(ROOT, only=["workflows", "actionlint", "zizmor"])
    assert all(result.passed and result.ran for result in results), format_text(results)


def test_the_matrix_step_outputs_what_invoke_matrix_prints(tmp_path: Path) -> None:
    steps = [found for _, _, found in STEPS if "invoke matrix" in found.get("run", "")]
    scripts = {found["run"] for found in steps}
    assert len(steps) == 3
    [script] = scripts
    output = tmp_path / "output"
    shell(script, checkout(tmp_path), {"GITHUB_OUTPUT": str(output)})
    name, _, value = output.read_text().partition("=")
    assert name == "matrix"
    assert json.loads(value) == json.loads(json.dumps(asdict(matrix())))


def test_workflows_use_only_lists_of_the_matrix() -> None:
    asked = re.findall(r"needs\.matrix\.outputs\.matrix\)\.(\w+)", "".join(texts()))
    assert {"python", "variants", "cpu", "gpu", "runner", "gpu_runner"} <= set(asked)
    assert set(asked) <= set(asdict(matrix()))


def test_images_are_built_and_tested_on_machines_of_the_matrix() -> None:
    assert set(CALLS) == set(IMAGES)
    for key, (variants, runner, session) in IMAGES.items():
        job = CALLS[key]
        assert job["uses"] == "$/.github/workflows/image.yml"
        assert job["strategy"]["matrix"] == {"variant": f"${{{{ {from_matrix(variants)} }}}}"}
        assert job["with"]["runner"] == f"${{{{ toJSON({from_matrix(runner)}) }}}}"
        assert job["with"]["session"] == session


def test_every_variant_is_released_once() -> None:
    ships = {key: job for key, job in CALLS.items() if "push-to" in job["with"]}
    lists = [IMAGES[key][0] for key in ships]
    found = asdict(matrix())
    assert sorted(name for each in lists for name in found[each]) == sorted(found["variants"])
    assert {flow for flow, _ in ships} == {"release"}
    assert FLOWS["release"][True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as a truth


def test_unit_tests_run_on_each_supported_python() -> None:
    job = JOBS["ci", "checks"]
    assert job["strategy"]["matrix"] == {"python": f"${{{{ {from_matrix('python')} }}}}"}
    assert job["steps"][-1]["run"] == "scripts/bootstrap nox --session lint tests"


def test_self_hosted_machines_run_no_pull_requests() -> None:
    assert "github.event_name == 'push'" in JOBS["ci", "gpu"]["if"]
    assert not any("pull_request" in flow[True] for name, flow in FLOWS.items() if name != "ci")


def test_an_image_is_pushed_after_its_smoke_test() -> None:
    names = [each.get("name") for each in JOBS["image", "image"]["steps"]]
    bill = "Write the bill of materials"
    order = ["Build", "Test", bill, "Push", "Attest the bill of materials"]
    assert [name for name in names if name in order] == order
    shipping = names[names.index(bill) : names.index(order[-1]) + 1]
    for name in shipping:
        assert step("image", "image", name)["if"] == "inputs.push-to != ''"


def test_every_command_exists(tmp_path: Path) -> None:
    staged = stage(tmp_path, matrix="{}\n", push="r/i:1@sha256:0\n")
    environment = {
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_REPOSITORY": "Owner/Repo",
        "VARIANT": "cpu",
        "CACHE": "write",
        "SESSION": "smoke",
    }
    for _, _, found in STEPS:
        if "scripts/bootstrap" in found.get("run", ""):
            shell(found["run"], staged, environment)
    calls = noted(staged)
    for command in calls:
        check(command)
    assert {"build", "push", "inspect", "lint", "pin", "matrix"} <= {
        command[1] for command in calls
    }
    assert {each[2] for each in IMAGES.values()} <= sessions()


@pytest.mark.parametrize("cache", ["none", "read", "write"])
def test_the_callers_choice_of_cache_reaches_the_build(tmp_path: Path, cache: str) -> None:
    at = "type=registry,ref=ghcr.io/owner/repo/build-cache:cpu"  # a reference has no capitals
    environment = {"GITHUB_REPOSITORY": "Owner/Repo", "VARIANT": "cpu", "CACHE": cache}
    shell(step("image", "image", "Build")["run"], stage(tmp_path), environment)
    [command] = noted(tmp_path)
    assert command[:4] == ["invoke", "build", "--variant", "cpu"]
    define = [word for word in command if "=" in word]
    found = load("cpu", define).config.build.cache
    assert found.from_ == ((at,) if cache != "none" else ())
    assert found.to == ((f"{at},mode=max,ignore-error=true",) if cache == "write" else ())
    assert ("--no-cache" in command) == (cache == "none")


def test_every_kind_of_cache_has_a_caller() -> None:
    assert {job["with"]["cache"] for job in CALLS.values()} == {"none", "read", "write"}


def test_attestations_name_the_first_pushed_digest(tmp_path: Path) -> None:
    output = tmp_path / "output"
    pushed = "r:5000/i:v1@sha256:aa\nr:5000/i:moving@sha256:bb\n"
    script = step("image", "image", "Push")["run"]
    printed = shell(script, stage(tmp_path, push=pushed), {"GITHUB_OUTPUT": str(output)})
    assert printed == pushed
    assert output.read_text() == "digest=sha256:aa\n"
    for name in ("Attest the build", "Attest the bill of materials"):
        with_ = step("image", "image", name)["with"]
        assert with_["subject-digest"] == "${{ steps.push.outputs.digest }}"


def test_a_failing_command_fails_its_step(tmp_path: Path) -> None:
    staged = stage(tmp_path)
    (staged / "scripts" / "bootstrap").write_text("#!/bin/sh\nexit 1\n")
    for _, _, found in STEPS:
        if "scripts/bootstrap" in found.get("run", ""):
            with pytest.raises(AssertionError):
                shell(found["run"], staged, {"GITHUB_OUTPUT": "output", "CACHE": "none"})


def test_pinned_actions_name_their_version() -> None:
    uses = re.findall(r"^ *(?:- )?uses: (.*)$", "".join(texts()), re.MULTILINE)
    assert len(uses) > len(CALLS)
    for use in uses:
        if use.startswith("$/"):
            assert (ROOT / use.removeprefix("$/")).is_file()
        else:
            assert re.search(r"@\w+ # v\d+\.\d+\.\d+$", use), use


def test_one_version_of_each_action() -> None:
    uses = {found["uses"] for _, _, found in STEPS if "uses" in found}
    assert len(uses) == len({use.partition("@")[0] for use in uses})


def test_jobs_have_only_the_permissions_they_need() -> None:
    for (flow, name), job in JOBS.items():
        if flow == "image":  # may do what its caller grants
            assert "permissions" not in job
            continue
        assert FLOWS[flow]["permissions"] == {}
        assert job["permissions"] == {"contents": "read", **GRANTS.get((flow, name), {})}


def test_jobs_have_timeouts_and_workflows_limit_concurrency() -> None:
    for job in JOBS.values():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 120
    assert all("concurrency" in flow for name, flow in FLOWS.items() if name != "image")


def texts() -> list[str]:
    """Return the text of every workflow."""
    return [path.read_text() for path in sorted(FOLDER.glob("*.yml"))]
