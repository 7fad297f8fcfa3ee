"""Ctrl-C and SIGTERM at random moments of what uses the engine: nothing is left, it runs again."""

from __future__ import annotations

import os
import random
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.host.engine.client import client
from scripts.host.engine.containers import checkout_label
from tests.support import images
from tests.support.interruption import Ended, run_until
from tests.support.registry import Registry, registry
from tests.support.running import build_image, copy_of_the_checkout
from tests.support.smoke_reports import write_report

pytestmark = pytest.mark.engine

MOMENTS = int(os.environ.get("INTERRUPTIONS", "3"))  # of each command; fifty by hand
STOPS = (signal.SIGINT, signal.SIGTERM)
A_TEST = """
import time
from tests.support.running import container

def test_that_waits_in_a_container():
    with container("{image}"):
        time.sleep(60)
"""


@pytest.fixture
def own_checkout(tmp_path: Path) -> Path:
    return copy_of_the_checkout(tmp_path / "checkout")


@pytest.fixture
def image() -> Iterator[str]:
    """An image that a worker's commands can run, with 20 MB that are its own."""
    tag = f"a1111-worker-test:interrupted-{secrets.token_hex(4)}"
    lines = (
        f"FROM {images.debian_root()}",
        "RUN head -c 20000000 /dev/urandom >/random",
        'CMD ["sleep", "infinity"]',
    )
    build_image(tag, "\n".join(lines))
    yield tag
    engine = client()
    for name in engine.images.get(tag).tags:
        engine.images.remove(name, force=True)
    engine.close()


def containers_of(root: Path) -> list[str]:
    """Return the containers that commands of a checkout started."""
    [(name, value)] = checkout_label(root).items()
    engine = client()
    found = engine.containers.list(all=True, filters={"label": f"{name}={value}"})
    engine.close()
    return [str(each.name) for each in found]


def check(root: Path, ended: Ended, stop: signal.Signals) -> None:
    """Assert that an interrupted command said so, and left nothing."""
    assert ended.left == (), ended
    assert ended.running == (), ended
    assert containers_of(root) == [], ended
    assert not list(root.glob("models/context-*")), ended
    if ended.status != 0 and ended.was_running:
        assert ended.says_interrupted(stop), ended
    assert "Traceback" not in ended.errors or not ended.was_running, ended


@pytest.mark.timeout(600)
def test_an_interrupted_build_can_be_run_again(
    own_checkout: Path, image_config: Path, model_store: Path
) -> None:
    command = ("build", "--variant", "cpu", "--target", "webui", "--no-cache", "--progress=plain")
    environment = {"IMAGE_CONFIG": str(image_config), "MODELS_STORE": str(model_store)}
    moments = random.Random("build")  # noqa: S311 - moments, not secrets
    for number in range(MOMENTS):
        stop, after = STOPS[number % 2], moments.uniform(0.5, 5)
        ended = run_until(own_checkout, *command, after=after, stop=stop, environment=environment)
        check(own_checkout, ended, stop)
    again = run_until(own_checkout, *command, environment=environment)
    assert again.status == 0, again


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path / "registry") as running:
        yield running


@pytest.mark.timeout(600)
def test_an_interrupted_push_can_be_run_again(
    own_checkout: Path, image: str, target: Registry
) -> None:
    engine = client()
    moments = random.Random("push")  # noqa: S311 - moments, not secrets
    for number in range(MOMENTS + 1):
        repository = f"{target.address}/tests/{number}"
        define = (f"image.repository={repository}", "image.tags=[one]", "image.moving_tags=[two]")
        engine.images.get(image).tag(repository, "one")
        write_report(own_checkout / "reports", str(engine.images.get(image).id))
        command = ("push", "--variant", "cpu", *(word for text in define for word in ("-D", text)))
        if number < MOMENTS:
            stop = STOPS[number % 2]
            ended = run_until(own_checkout, *command, after=moments.uniform(0.5, 2.5), stop=stop)
            check(own_checkout, ended, stop)
        again = run_until(own_checkout, *command)
        assert again.status == 0, again
        assert target.tags(f"tests/{number}") == {"one", "two"}
    engine.close()


@pytest.mark.timeout(600)
def test_an_interrupted_serve_removes_its_container(own_checkout: Path, image: str) -> None:
    moments = random.Random("serve")  # noqa: S311 - moments, not secrets
    command = ("serve", "--cpu", "--image", image, "--port", "0", "-D", "smoke.stop_timeout=1")
    for number in range(MOMENTS):
        stop = STOPS[number % 2]
        ended = run_until(own_checkout, *command, after=moments.uniform(0.5, 3), stop=stop)
        assert ended.left == ended.running == (), ended
        assert containers_of(own_checkout) == [], ended
        # Once it serves, to be stopped is its ordinary end.
        is_stopped = "stopping; running jobs may end" in ended.errors
        assert is_stopped or not ended.was_running or ended.says_interrupted(stop), ended


@pytest.mark.timeout(600)
@pytest.mark.parametrize("session", ["smoke", "engine"])
def test_an_interrupted_session_of_nox_removes_its_container(
    own_checkout: Path, image: str, session: str
) -> None:
    """SIGTERM reaches nox alone, Ctrl-C the program too, and 0.3 s later SIGTERM by nox."""
    command = ["--session", session, "--", "--variant", "cpu", "--image", image]
    if session == "engine":
        (own_checkout / "tests/engine/test_image.py").write_text(A_TEST.format(image=image))
        command[3:] = ["-n", "1", "-k", "waits_in_a_container"]
    moments = random.Random(session)  # noqa: S311 - moments, not secrets
    for number in range(MOMENTS):
        stop, after = STOPS[number % 2], moments.uniform(2, 8)
        ended = run_until(own_checkout, *command, module="nox", after=after, stop=stop)
        assert ended.status != 0, ended
        assert "INTERNALERROR" not in ended.output + ended.errors, ended
        assert ended.running == (), ended
        assert containers_of(own_checkout) == [], ended
