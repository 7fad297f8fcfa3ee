"""Test that requests of extensions are read and compared as pip would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.extensions.installed_packages import find_unsatisfied, installed_packages
from scripts.common.extensions.pip_requests import (
    PipRequest,
    read_arguments,
    read_recorded_calls,
    read_requirement_list,
)
from scripts.common.extensions.run_installer import RECORDER

WHEEL = "https://github.com/sdbds/DSINE/releases/download/1.0.2/dsine-2024.3.23-py3-none-any.whl"


def texts(requests: tuple[PipRequest, ...]) -> list[str]:
    return [request.text for request in requests]


@pytest.mark.parametrize(
    ("call", "requests"),
    [
        ("install -U timm>=0.9 --prefer-binary", ["timm>=0.9"]),
        ("install timm<=0.9.5 yapf --prefer-binary --index-url http://x/", ["timm<=0.9.5", "yapf"]),
        ("install --index-url=http://x/ -f wheels rembg==2.0.50 --no-deps", ["rembg==2.0.50"]),
        ("install --extra-index-url http://x/ --pre -U --no-cache-dir tensorrt", ["tensorrt"]),
        ("install install networkx", ["networkx"]),
        (f"install -U {WHEEL}", [f"dsine @ {WHEEL}"]),
        ("install https://x/a/deep-thing-1.2.tar.gz", ["deep-thing @ https://x/a/deep-thing-1.2.tar.gz"]),
        ("install git+https://github.com/IDEA/GroundingDINO", ["GroundingDINO @ git+https://github.com/IDEA/GroundingDINO"]),
        ("install https://x/archive/0a1b.zip#egg=thing", ["thing @ https://x/archive/0a1b.zip#egg=thing"]),
        ("install .", ["."]),
        ("install -e ./own", ["./own"]),
        ("uninstall -y onnxruntime", []),
        ("list --format json", []),
    ],
)  # fmt: skip
def test_each_form_of_a_call_is_understood(call: str, requests: list[str]) -> None:
    assert texts(read_arguments(call.split(), {}, "install.py")) == requests


def test_only_a_call_without_dependencies_says_so() -> None:
    [plain] = read_arguments(["install", "rembg"], {}, "install.py")
    [bare] = read_arguments(["install", "--no-deps", "rembg"], {}, "install.py")
    assert plain.with_dependencies
    assert not bare.with_dependencies


def test_lists_are_read_with_their_comments_options_and_lists() -> None:
    listed = (
        "\ufeffsend2trash~=1.8 # to the bin\n\n# nothing\n--extra-index-url http://x/\n"
        'av>=14,<15 ; python_version >= "3"\n-r more/other.txt\n'
        f"{WHEEL}\nhashed==1.0 --hash=sha256:00 \\\n    --hash=sha256:01\nlast"
    )
    files = {"more/other.txt": "inner\n-r deep.txt", "more/deep.txt": "deep\n-r other.txt"}
    assert texts(read_requirement_list(listed, "requirements.txt", files)) == [
        "send2trash~=1.8",
        'av<15,>=14; python_version >= "3"',
        "inner",
        "deep",
        f"dsine @ {WHEEL}",
        "hashed==1.0",
        "last",
    ]


def run_recorder(tmp_path: Path, *arguments: str, answer: str) -> subprocess.CompletedProcess[str]:
    """Call pip as an installer does, in a folder with a list of requirements."""
    (tmp_path / "list.txt").write_text("toml")
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(RECORDER),
            "PIP_RECORDER_LOG": str(tmp_path / "log"),
            "PIP_RECORDER_ANSWER": answer,
            "PIP_NO_INDEX": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_recorded_calls_install_nothing(tmp_path: Path) -> None:
    for arguments in (["install", "-q", "-r", "list.txt"], ["install", "a<2"], ["install", "a<2"]):
        assert run_recorder(tmp_path, *arguments, answer="record").returncode == 0
    requests = read_recorded_calls((tmp_path / "log").read_text())
    assert texts(requests) == ["toml", "a<2"]
    assert {request.source for request in requests} == {"install.py"}


def test_real_pip_answers_where_nothing_else_is_asked(tmp_path: Path) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], check=False).returncode:
        pytest.skip("this environment has no pip")
    done = run_recorder(tmp_path, "install", "no-such-package-here", answer="run")
    assert done.returncode != 0
    assert "no-such-package-here" in done.stderr
    [line] = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["status"] == done.returncode
    assert "pip " in run_recorder(tmp_path, "--version", answer="run").stdout


def install(site: Path, name: str, version: str, *needs: str) -> None:
    """Write the metadata of an installed package."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def problems(site: Path, *asked: str, overrides: tuple[str, ...] = ()) -> list[str]:
    requests = [PipRequest(text, "install.py") for text in asked]
    found = find_unsatisfied(requests, installed_packages([str(site)]), overrides)
    return [str(each) for each in found]


def test_requests_are_compared_with_what_is_installed(tmp_path: Path) -> None:
    install(tmp_path, "controlnet_aux", "0.0.10")
    install(tmp_path, "timm", "1.0.31")
    install(tmp_path, "dsine", "2024.3.23")
    assert problems(tmp_path, "ControlNet-Aux>=0.0.9", f"dsine @ {WHEEL}") == []
    assert problems(tmp_path, "timm<=0.9.5", "mediapipe", ".") == [
        "install.py asks for timm<=0.9.5, but timm 1.0.31 is installed",
        "install.py asks for mediapipe, but it is not installed",
        "install.py asks for ., but that names no package",
    ]
    assert problems(tmp_path, "pywin32; sys_platform == 'win32'") == []
    newer = WHEEL.replace("2024.3.23", "2025.1")
    assert len(problems(tmp_path, f"dsine @ {newer}")) == 1


def test_extras_need_their_packages(tmp_path: Path) -> None:
    install(tmp_path, "dynamicprompts", "0.31.0", "torch; extra == 'magicprompt'", "jinja2")
    assert problems(tmp_path, "dynamicprompts") == []
    assert len(problems(tmp_path, "dynamicprompts[magicprompt]")) == 1
    install(tmp_path, "torch", "2.7.0")
    assert problems(tmp_path, "dynamicprompts[magicprompt]") == []


def test_overrides_replace_bounds_and_leave_packages_out(tmp_path: Path) -> None:
    install(tmp_path, "protobuf", "4.25.9")
    asked = ("protobuf<4", f"dsine @ {WHEEL}")
    assert len(problems(tmp_path, *asked)) == 2
    overrides = ("protobuf>=4.25.3,<5", "dsine; python_version < '0'")
    assert problems(tmp_path, *asked, overrides=overrides) == []
    assert len(problems(tmp_path, "protobuf", overrides=("protobuf>=5",))) == 1
