"""`invoke clean --all` on a real engine removes what killed processes left, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.clean import Leftover, find_leftovers, remove
from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from scripts.host.engine.containers import checkout_label
from tests.support.images import debian_root
from tests.support.running import build_image, copy_of_the_checkout, eventually, invoke

pytestmark = pytest.mark.engine

# A container that runs and an image, as a smoke session and a test of broken images start them.
SESSION = """
import sys, time
from pathlib import Path
from scripts.host.engine.client import client
from scripts.host.engine.containers import session_label
labels = session_label(Path(sys.argv[1]))
running = client().containers.run(sys.argv[2], ["sleep", "600"], labels=labels, detach=True)
instructions = [f"LABEL {name}={value}" for name, value in labels.items()]
client().api.import_image_from_data(b"\\0" * 1024, "a1111-worker-broken", sys.argv[3], instructions)
print(running.name, flush=True)
time.sleep(600)
"""
KINDS = ("container", "image of a test")


@contextmanager
def session(checkout: Path) -> Iterator[tuple[subprocess.Popen[str], set[str]]]:
    """A process that starts containers for a checkout, and the names of what it started."""
    command = [sys.executable, "-c", SESSION, str(checkout), debian_root(), checkout.name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        container = process.stdout.readline().strip()
        try:
            yield process, {container, f"a1111-worker-broken:{checkout.name}"}
        finally:
            process.kill()
            engine = client()
            for left in engine.containers.list(all=True, filters={"name": container}):
                left.remove(force=True)
            for image in engine.images.list(f"a1111-worker-broken:{checkout.name}"):
                engine.images.remove(image.id, force=True)
            engine.close()


def found(checkout: Path) -> dict[str, Leftover]:
    """The containers and their images that `invoke clean --all` of a checkout lists."""
    leftovers = find_leftovers(checkout, checkout / "models", everything=True)
    return {each.name: each for each in leftovers if each.kind in KINDS}


def there(name: str) -> bool:
    known = subprocess.run(["docker", "inspect", name], capture_output=True, check=False)
    return known.returncode == 0


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkout")


def test_leftovers_of_a_killed_session_are_listed_and_removed(checkout: Path) -> None:
    with session(checkout) as (process, names):
        kill(process)
        shown = found(checkout)
        assert set(shown) == names
        assert all(map(there, names)), "listing removes nothing"
        remove(list(shown.values()))
        assert not any(map(there, names))
        assert found(checkout) == {}


def test_running_session_keeps_its_containers(checkout: Path) -> None:
    with session(checkout) as (process, _):
        assert found(checkout) == {}
        kill(process)
        shown = found(checkout)
        with session(checkout) as (_, names):
            with pytest.raises(UserError, match="a session has begun meanwhile"):
                remove(list(shown.values()))
            assert all(map(there, names))


@pytest.fixture
def idle() -> Iterator[str]:
    """An image that starts, and never gets ready."""
    tag = "a1111-worker-idle:test"
    build_image(tag, f'FROM {debian_root()}\nCMD ["sleep", "600"]\n')
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], check=True, capture_output=True)


def test_container_of_a_killed_smoke_session_is_listed(idle: str, tmp_path: Path) -> None:
    copy = copy_of_the_checkout(tmp_path / "checkout")
    engine = client()
    ours = {"label": [f"{name}={value}" for name, value in checkout_label(copy).items()]}

    def workers() -> list[str]:
        """The containers with a port, which only the one under test has."""
        listed = engine.containers.list(filters=ours)
        return [each.name for each in listed if each.attrs["HostConfig"]["PortBindings"]]

    options = ("--image", idle, "--variant", "cpu", "-k", "becomes_ready")
    nox = [sys.executable, "-m", "nox", "-s", "smoke", "--", *options]
    with subprocess.Popen(nox, cwd=copy, start_new_session=True, stdout=subprocess.DEVNULL) as run:
        try:
            [worker] = eventually(workers, seconds=60, what="the worker runs")
            busy = invoke("clean", "--all", "--dry-run", root=copy)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
    try:
        assert worker not in busy.stdout, busy.stdout
        assert worker in invoke("clean", "--all", "--dry-run", root=copy).stdout
    finally:
        remove(list(found(copy).values()))
    assert engine.containers.list(all=True, filters=ours) == []
    engine.close()


def test_leftovers_of_another_checkout_are_kept(checkout: Path, tmp_path: Path) -> None:
    with session(checkout) as (process, names):
        kill(process)
        assert found(tmp_path) == {}
        assert all(map(there, names))
