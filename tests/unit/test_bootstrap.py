"""scripts/bootstrap makes .venv once, then runs commands, and asks before it installs."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.host.config.load import ROOT
from tests.support import pip_index
from tests.support.pip_index import FILES

SHELLS = [shell for shell in ("sh", "dash", "busybox") if shutil.which(shell)]


def bare_checkout(folder: Path) -> Path:
    """Make a checkout whose lock is empty, so that .venv needs no index."""
    for name in ("scripts/bootstrap", "scripts/install-engine"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / "requirements").mkdir()
    (folder / "requirements/dev.txt").write_text("# nothing\n")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without .venv."""
    return bare_checkout(tmp_path)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with its .venv, made once for the tests that leave it as it is."""
    folder = bare_checkout(tmp_path_factory.mktemp("ready"))
    answer = bootstrap(folder, "true")
    assert answer.returncode == 0, answer.stderr
    return folder


def bootstrap(
    checkout: Path, *command: str, shell: str = "sh", **environment: str
) -> subprocess.CompletedProcess[str]:
    run = [shell, *(["ash"] if shell == "busybox" else []), "scripts/bootstrap", *command]
    environment = {"PYTHON": sys.executable, **environment}
    return subprocess.run(
        run,
        cwd=checkout,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_inside_the_venv(ready: Path, shell: str) -> None:
    code = "import sys; print(sys.prefix)"
    answer = bootstrap(ready, "python", "-c", code, shell=shell)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == str(ready / ".venv")


def test_a_changed_lock_alone_makes_the_venv_again(ready: Path, tmp_path: Path) -> None:
    checkout = shutil.copytree(ready, tmp_path / "copy", symlinks=True)
    marker = checkout / ".venv/marker"
    marker.touch()
    assert "making .venv" not in bootstrap(checkout, "true").stderr
    assert marker.exists()
    (checkout / "requirements/dev.txt").write_text("# still nothing\n")
    assert "making .venv" in bootstrap(checkout, "true").stderr
    assert not marker.exists()


def test_an_interrupted_venv_is_made_again(checkout: Path) -> None:
    (checkout / "requirements/dev.txt").write_text("no-such-package-anywhere==1 --hash=sha256:00\n")
    failed = bootstrap(checkout, "true", PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="0")
    assert failed.returncode != 0
    assert not (checkout / ".venv/.lock-stamp").exists()
    (checkout / "requirements/dev.txt").write_text("# nothing\n")
    assert bootstrap(checkout, "true").returncode == 0


def test_settings_of_pip_for_other_environments_do_not_count(
    checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "bounds.txt").write_text("fetched<1\n")
    settings = f"[install]\nuser = true\nconstraint = {tmp_path}/bounds.txt\n"
    (tmp_path / "pip.conf").write_text(settings)
    digest = hashlib.sha256(FILES["fetched"][1]).hexdigest()
    (checkout / "requirements/dev.txt").write_text(f"fetched==1.0 --hash=sha256:{digest}\n")
    with pip_index.running(login="me:s3cret") as index:
        answer = bootstrap(
            checkout,
            *("python", "-c", "import fetched; print(fetched.__file__)"),
            PIP_CONFIG_FILE=str(tmp_path / "pip.conf"),
            PIP_INDEX_URL=index.replace("//", "//me:s3cret@"),
            PIP_REQUIRE_VIRTUALENV="1",
            PIP_TARGET=str(tmp_path / "elsewhere"),
        )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(checkout / ".venv"))
    assert "s3cret" not in answer.stderr


def test_an_index_that_refuses_the_login_is_one_line_without_it(checkout: Path) -> None:
    (checkout / "requirements/dev.txt").write_text(f"fetched==1.0 --hash=sha256:{'0' * 64}\n")
    with pip_index.running(login="me:other") as index:
        url = index.replace("//", "//me:s3cret@")
        answer = bootstrap(checkout, "true", PIP_INDEX_URL=url, PIP_NO_INPUT="1")
    assert answer.returncode == 1
    assert "the locked packages cannot be installed" in answer.stderr.splitlines()[-1]
    assert "s3cret" not in answer.stderr


def test_a_venv_that_cannot_be_made_says_what_to_do(checkout: Path) -> None:
    (checkout / ".venv").write_text("a file in its place")
    answer = bootstrap(checkout, "true")
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"bootstrap: {sys.executable} cannot make .venv - look above")
    assert "PYTHON=" in last


def test_arguments_and_exit_code_pass_through(ready: Path) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    answer = bootstrap(ready, "python", "-c", code, "a b", "--yes")
    assert answer.returncode == 7
    assert answer.stdout.strip() == "['a b', '--yes']"


def test_a_start_with_nothing_to_do_is_quick(ready: Path) -> None:
    """In seconds of the processor: on a busy machine all else takes longer."""
    seconds = []
    for _ in range(10):
        before = os.times()
        bootstrap(ready, "true")
        after = os.times()
        user, system = after[2] - before[2], after[3] - before[3]  # of the children that ended
        seconds.append(user + system)
    assert min(seconds) < 0.2


def test_without_an_engine_the_command_still_runs(ready: Path) -> None:
    answer = bootstrap(ready, "echo", "ran", DOCKER_HOST="unix:///nowhere.sock")
    assert answer.stdout.strip() == "ran"
    assert answer.stderr.splitlines() == [
        "bootstrap: no Docker engine with buildx; images need one: scripts/bootstrap --yes echo ran"
    ]


# Ubuntu's archive has browsers as snaps only.
BROWSER = "" if platform.freedesktop_os_release()["ID"] == "ubuntu" else "chromium "
ALL_MISSING = f"busybox {BROWSER}curl dash docker-registry mmdebstrap tcc wget"


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("nox", ALL_MISSING),
        ("nox --session lint tests", ALL_MISSING),
        ("nox -s smoke -- --variant cpu", ""),
        ("python -m tests.support.up", "docker-registry mmdebstrap"),
        ("python -m tests.standins.up", "docker-registry mmdebstrap"),
        ("python -m pytest", ""),
        ("true", ""),
    ],
)
def test_only_missing_programs_of_the_command_are_named(
    ready: Path, tmp_path: Path, command: str, missing: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "cksum", "cat", "sh", "echo", "git", "true"):
        (tools / name).symlink_to(shutil.which(name) or "")
    for name in ("nox", "python"):  # in the place of .venv/bin/NAME, which bootstrap would run
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    words = [str(tools / word) if word in ("nox", "python") else word for word in command.split()]
    answer = bootstrap(ready, *words, shell=shutil.which("sh") or "sh", PATH=str(tools))
    lines = [line for line in answer.stderr.splitlines() if "missing programs" in line]
    again = f"on Debian and Ubuntu: scripts/bootstrap --yes {' '.join(words)}"
    assert lines == ([f"bootstrap: missing programs: {missing}; {again}"] if missing else [])


def test_no_usable_python_is_one_line(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "cksum", "cat", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    answer = bootstrap(
        checkout, "true", shell=shutil.which("sh") or "sh", PATH=str(tools), PYTHON="none"
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("bootstrap: no Python 3.10 to 3.14 is on PATH - ")


def test_no_command_is_one_line(checkout: Path) -> None:
    assert "no command" in bootstrap(checkout).stderr
