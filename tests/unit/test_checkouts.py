"""A build from any checkout of a commit has the same inputs, on whatever machine it lies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from tests.support.namespaces import needs_namespaces, run_with_mount

CONTEXT = ("Dockerfile", "requirements", "scripts/common", "scripts/container", "scripts/image")


def git(*arguments: str, umask: int = 0o022) -> None:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_ALLOW_PROTOCOL": "file"}
    command = ["git", "-c", "safe.directory=*", *arguments]
    subprocess.run(
        command, check=True, capture_output=True, umask=umask, env={**os.environ, **settings}
    )


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("origin") / "plain"
    git("clone", "--quiet", ROOT.as_uri(), str(folder))
    return folder


def with_crlf(origin: Path, folder: Path) -> None:
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    git(*settings, "clone", "--quiet", str(origin), str(folder))


def private(origin: Path, folder: Path) -> None:
    git("clone", "--quiet", str(origin), str(folder), umask=0o077)


def shared(origin: Path, folder: Path) -> None:
    git("clone", "--quiet", str(origin), str(folder), umask=0o002)


def shallow(origin: Path, folder: Path) -> None:
    git("clone", "--quiet", "--depth", "1", origin.as_uri(), str(folder))


def worktree(origin: Path, folder: Path) -> None:
    git("-C", str(origin), "worktree", "add", "--quiet", "--detach", str(folder))


def of_another_user(origin: Path, folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    git("clone", "--quiet", str(origin), str(folder))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)


def inputs_of(folder: Path) -> BuildInputs:
    return resolve(load("cpu", root=folder, environment={}))


def context_of(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Return the content of what is sent to the builder, and whether it may be run."""
    files = [
        folder / CONTEXT[0],
        *(each for part in CONTEXT[1:] for each in (folder / part).rglob("*")),
    ]
    return {
        str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (with_crlf, "plain"),
        (private, "with space"),
        (shared, "\u00fcml\u00e4ut-\u6a21\u578b"),
        (shallow, "quote's"),
        (worktree, "a worktree"),
        (of_another_user, "another's"),
    ],
)
def test_every_kind_of_checkout_builds_the_same(
    origin: Path, tmp_path: Path, make: Callable[[Path, Path], None], name: str
) -> None:
    folder = tmp_path / name
    make(origin, folder)
    plain, found = inputs_of(origin), inputs_of(folder)
    assert found.revision == plain.revision != "unknown"
    assert found.created == plain.created
    assert (found.tags, found.labels) == (plain.tags, plain.labels)
    assert found.arguments == plain.arguments
    assert context_of(folder) == context_of(origin)


def test_files_without_git_build_the_same_but_for_the_revision(
    origin: Path, tmp_path: Path
) -> None:
    archive = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(origin), "archive", "HEAD"],
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    found = inputs_of(tmp_path)
    assert (found.revision, found.created) == ("unknown", 0)
    assert found.arguments == inputs_of(origin).arguments
    assert context_of(tmp_path) == context_of(origin)


def test_without_a_home_the_config_is_read() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    command = [sys.executable, "-m", "invoke", "config", "--variant", "cpu"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "build.accelerator" in done.stdout


@needs_namespaces
def test_in_a_read_only_home_buildx_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    code = (
        "import os; from scripts.host.engine import client; client._docker('--version');"
        "print(os.environ['BUILDX_CONFIG'])"
    )
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    mount = f"mount -t tmpfs -o ro none {tmp_path}/home && export HOME={tmp_path}/home"
    mount += f" PATH={tmp_path}:$PATH && unset DOCKER_CONFIG BUILDX_CONFIG"
    done = run_with_mount(mount, [sys.executable, "-c", code])
    assert done.stdout.strip() == str(ROOT / "reports" / "buildx"), done.stderr
