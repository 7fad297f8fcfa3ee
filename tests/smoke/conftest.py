"""Runs the smoke tests against an image or an address, and writes the report push asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from scripts.common.errors import Failure
from scripts.common.findings import FINDINGS
from scripts.host.config.load import Loaded, load
from scripts.host.console import say
from scripts.host.docker.engine import client
from scripts.host.docker.plan import references, source_of
from scripts.host.smoke import report
from scripts.host.smoke.api import Api

CHECKS = pytest.StashKey["list[report.Check]"]()
EVIDENCE = pytest.StashKey["list[str]"]()
TARGET = pytest.StashKey["Target"]()


@dataclass
class Target:
    """What is tested: an image by reference and ID, or an address."""

    image: str = ""
    image_id: str = ""
    log: Callable[[], str] = field(default=lambda: "")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--image", default="", help="image to test; the variant's own by default")
    group.addoption("--variant", default="cpu", help="which image: a name under `variants`")
    group.addoption("--url", default="", help="test a running worker instead of an image")
    group.addoption("--gpu", default="", help="GPU index, or all; starts the image with it")
    group.addoption("--allow-no-gpu", action="store_true", help="skip where no GPU is to be had")
    group.addoption("--keep", action="store_true", help="leave the container running")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CHECKS] = []
    config.stash[TARGET] = Target()


@pytest.fixture(scope="session")
def loaded(pytestconfig: pytest.Config) -> Loaded:
    return load(pytestconfig.getoption("--variant"))


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config, loaded: Loaded) -> Any:
    """The image under test, as the SDK knows it."""
    import docker

    name = pytestconfig.getoption("--image") or references(loaded, source_of(loaded.root))[0]
    try:
        found = client().images.get(name)
    except docker.errors.ImageNotFound:
        cure = f"invoke build --variant {loaded.variant}"
        pytest.exit(str(Failure("there is no such image", where=name, cure=cure)), 3)
    pytestconfig.stash[TARGET].image, pytestconfig.stash[TARGET].image_id = name, found.id
    return found


def device_requests(gpu: str) -> list[Any]:
    """The engine's device request for a GPU index, or all; none for an empty word."""
    from docker.types import DeviceRequest

    if not gpu:
        return []
    if gpu == "all":
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=[gpu], capabilities=[["gpu"]])]


@pytest.fixture(scope="session")
def container(pytestconfig: pytest.Config, image: Any, loaded: Loaded) -> Iterator[Any]:
    """The image, started as on a pod, with port 3000 on loopback."""
    import docker

    try:
        running = client().containers.run(
            image.id,
            detach=True,
            ports={"3000/tcp": ("127.0.0.1", None)},
            device_requests=device_requests(pytestconfig.getoption("--gpu")),
        )
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        missing = "could not select device driver" in said or "nvidia" in said.lower()
        if missing and pytestconfig.getoption("--allow-no-gpu"):
            pytest.skip("no GPU here")
        code = "gpu-not-visible" if missing else ""
        cure = "install the NVIDIA driver and container toolkit" if missing else "invoke doctor"
        pytest.exit(str(Failure(said.strip(), where=image.id[:19], cure=cure, code=code)), 3)
    pytestconfig.stash[TARGET].log = lambda: running.logs().decode("utf-8", "replace")
    yield running
    folder = loaded.root / "reports"
    folder.mkdir(exist_ok=True)
    (folder / f"smoke-{loaded.variant}.log").write_bytes(running.logs())
    if not pytestconfig.getoption("--keep"):
        running.remove(force=True, v=True)


@pytest.fixture(scope="session")
def api(pytestconfig: pytest.Config, request: pytest.FixtureRequest, loaded: Loaded) -> Api:
    """The worker's API, answering."""
    url = pytestconfig.getoption("--url")
    if not url:
        running = request.getfixturevalue("container")
        running.reload()
        port = running.ports["3000/tcp"][0]["HostPort"]
        url = f"http://127.0.0.1:{port}"
    found = Api(url)
    found.wait(loaded.config.smoke.ready_timeout)
    return found


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Notes what a check saw, for the report."""
    lines: list[str] = request.node.stash.setdefault(EVIDENCE, [])
    return lambda text: lines.append(str(text))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    result = yield
    if result.when == "call" or (result.when == "setup" and not result.passed):
        lines = item.stash.get(EVIDENCE, [])
        if result.failed and call.excinfo:
            lines = [*lines, str(call.excinfo.value).splitlines()[0]]
        check = report.Check(
            name=item.name.removeprefix("test_").replace("_", " "),
            outcome=result.outcome,
            seconds=round(result.duration, 2),
            evidence="; ".join(lines),
            code=_code(item, call) if result.failed else "",
        )
        item.config.stash[CHECKS].append(check)
    return result


def _code(item: pytest.Item, call: Any) -> str:
    """A failure's name: its own, or that of the known failure its log speaks of."""
    own = getattr(getattr(call.excinfo, "value", None), "code", "")
    log = item.config.stash[TARGET].log()
    spoken = (
        row.code for row in FINDINGS.values() if row.signature and re.search(row.signature, log)
    )
    return str(next(spoken, own))


def pytest_sessionfinish(session: pytest.Session) -> None:
    checks, target = session.config.stash[CHECKS], session.config.stash[TARGET]
    if not checks:
        return
    variant = session.config.getoption("--variant")
    made = report.made(target.image, target.image_id, variant, tuple(checks))
    if target.image_id:
        report.write(made, load(variant).root / "reports")
    say()
    say(report.summary(made))
