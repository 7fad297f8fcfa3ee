"""Stand-ins behave like the originals where no other test would notice a difference."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import docker
import pytest
import requests
import yaml

from scripts.host.config.load import ROOT
from tests.support.git_server import WEBUI, repositories
from tests.support.images import base_download
from tests.support.interruption import CLEANS_UP
from tests.support.running import output
from tests.support.up import stand_ins

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def git_base() -> str:
    return base_download()


def shell(image: str, line: str) -> str:
    return output(image, "-c", line, entrypoint="/bin/sh").strip()


def test_commands_are_busybox_not_gnu(git_base: str) -> None:
    line = "for name in sh sed stat sha256sum; do readlink -f /bin/$name; done"
    assert set(shell(git_base, line).split()) == {"/usr/bin/busybox"}
    assert shell(git_base, "command -v bash apt-get python3 || echo none") == "none"


def test_a_package_exists_only_after_apk_add(git_base: str) -> None:
    line = "command -v curl || echo none; apk add --no-cache curl >/dev/null; command -v curl"
    assert shell(git_base, line).splitlines() == ["none", "/usr/bin/curl"]


@pytest.mark.parametrize("command", ["add --no-cache no-such", "add curl", "del curl"])
def test_apk_refuses_unknown_packages_and_commands(git_base: str, command: str) -> None:
    with pytest.raises(docker.errors.ContainerError, match="exit status 1"):
        shell(git_base, f"apk {command}")


def test_given_repositories_models_and_overlay_are_served(tmp_path: Path) -> None:
    given = tmp_path / "given"
    commit = repositories(given / "git")[WEBUI]
    model = given / "hub/owner/name/model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"model")
    overlay = given / "overlay.yaml"
    overlay.write_text(f"a1111: {{sources: {{webui: {{commit: {commit}}}}}}}\nmodels: []\n")
    folder, config = tmp_path / "own", tmp_path / "config.yaml"
    folder.mkdir()
    with stand_ins(
        folder, config, git_root=given / "git", hub_root=given / "hub", overlay=overlay
    ) as up:
        written = yaml.safe_load(config.read_text())
        assert written["a1111"] == {"sources": {"webui": {"commit": commit}}}
        assert written["models"] == []
        assert written["mirrors"]["github"] == up.git
        refs = subprocess.check_output(["git", "ls-remote", f"{up.git}/{WEBUI}"], text=True)
        assert commit in refs
        path = "/owner/name/resolve/main/model.safetensors"
        assert requests.get(up.hub.url + path, timeout=10).content == b"model"
    assert not (folder / "git").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_may_clean_up(tmp_path: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.support.up", "--config", str(tmp_path / "config.yaml")]
    with subprocess.Popen(
        [*command, "--", sys.executable, "-c", CLEANS_UP],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)
        else:
            process.send_signal(stop)
        output, _ = process.communicate(timeout=60)
    assert output == "cleaning up\ndone\n"
    assert process.returncode == 130


def test_missing_programs_skip_engine_tests_by_name(tmp_path: Path) -> None:
    (tmp_path / "docker").symlink_to(shutil.which("docker") or "")
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/engine", "-rs"],
        cwd=ROOT,
        env={**inherited, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    assert " passed" not in answer.stdout
    [line] = [line for line in answer.stdout.splitlines() if "engine tests need" in line]
    assert line.startswith("SKIPPED")
    assert "docker-registry, git, mmdebstrap" in line
    assert "scripts/bootstrap --yes nox" in line
