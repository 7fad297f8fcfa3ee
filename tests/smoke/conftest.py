"""Runs the smoke tests against an image or an address, and writes the report push asks for.

A check is a test; `@pytest.mark.fails_as(code)` names its failure unless it knows better itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import Failure
from scripts.host.config.load import Loaded, load
from scripts.host.console import say
from scripts.host.docker.engine import client
from scripts.host.docker.plan import references, source_of
from scripts.host.smoke import report, worker
from scripts.host.smoke.api import Api, Picture
from scripts.host.smoke.naming import excerpt, named

EVIDENCE = pytest.StashKey["list[str]"]()
ANSWER_SECONDS = 15.0


@dataclass
class Run:
    """What is tested, and what was found so far."""

    loaded: Loaded
    folder: Path
    image: Any = None
    subject: report.Subject | None = None
    worker: worker.Worker | None = None
    log: str = ""
    checks: list[report.Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--image", default="", help="image to test; the variant's own by default")
    group.addoption("--variant", default="cpu", help="which image: a name under `variants`")
    group.addoption("--url", default="", help="test a running worker instead of an image")
    group.addoption("--gpu", default="", help="GPU index, or all; starts the image with it")
    group.addoption("--allow-no-gpu", action="store_true", help="skip where no GPU is to be had")
    group.addoption("--keep", action="store_true", help="leave the container running")
    group.addoption(
        "--ready-timeout", type=float, help="seconds to ready, over smoke.ready_timeout"
    )
    group.addoption("--reports", default="", help="folder of the report; reports/ by default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fails_as(code): the failure's name in findings.py")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Settle what is tested before anything runs, so that its absence is one line."""
    options = session.config.option
    if options.collectonly:
        return
    try:
        loaded = load(options.variant)
        folder = Path(options.reports or loaded.root / "reports")
        session.config.stash[RUN] = run = Run(loaded, folder)
        if options.url:
            subject = report.Subject(image=options.url, image_id="", variant="url")
        else:
            run.image, subject = _subject(loaded, options.image, options.gpu)
            if options.gpu:
                worker.require_gpu(client(), run.image.id, options.gpu)
        run.subject = subject
    except Failure as failure:
        if failure.code == "gpu-not-visible" and options.allow_no_gpu:
            return
        raise pytest.UsageError(str(failure)) from None
    folder.mkdir(parents=True, exist_ok=True)


def _subject(loaded: Loaded, name: str, gpu: str) -> tuple[Any, report.Subject]:
    import docker

    reference = name or references(loaded, source_of(loaded.root))[-1]
    try:
        image = client().images.get(reference)
    except docker.errors.ImageNotFound:
        cure = f"invoke build --variant {loaded.variant}"
        raise Failure("there is no such image", where=reference, cure=cure) from None
    return image, report.Subject(
        image=reference,
        image_id=image.id,
        variant=loaded.variant,
        gpu=gpu,
        labels=image.labels,
    )


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """What is tested."""
    found = pytestconfig.stash[RUN]
    if not found.subject:
        pytest.skip("there is no GPU here")
    return found


@pytest.fixture(scope="session")
def loaded(run: Run) -> Loaded:
    """The config of the variant under test."""
    return run.loaded


@pytest.fixture(scope="session")
def image(run: Run) -> Any:
    """The image under test, as the SDK knows it."""
    if not run.image:
        pytest.skip("an address has no image to look into")
    return run.image


@pytest.fixture(scope="session")
def started(pytestconfig: pytest.Config, image: Any, run: Run) -> Iterator[worker.Worker]:
    """The image, started as on a pod."""
    gpu = pytestconfig.getoption("--gpu")
    if run.loaded.config.build.accelerator == "cuda" and not gpu:
        pytest.skip("serving needs a GPU: nox -s gpu_smoke")
    run.worker = worker.start(client(), image.id, gpu)
    yield run.worker
    run.log = run.worker.log
    if not pytestconfig.getoption("--keep"):
        run.worker.container.remove(force=True, v=True)


@pytest.fixture(scope="session")
def ready(pytestconfig: pytest.Config, loaded: Loaded, started: worker.Worker) -> worker.Worker:
    """The worker, once it has drawn."""
    limit = pytestconfig.getoption("--ready-timeout") or loaded.config.smoke.ready_timeout
    started.wait_until_ready(limit)
    return started


@pytest.fixture(scope="session")
def api(pytestconfig: pytest.Config, request: pytest.FixtureRequest, run: Run) -> Api:
    """The worker's API, answering."""
    url = pytestconfig.getoption("--url") if run else ""
    found = Api(url or request.getfixturevalue("ready").url)
    found.wait(ANSWER_SECONDS)
    return found


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Notes what a check saw, for the report."""
    lines: list[str] = request.node.stash.setdefault(EVIDENCE, [])
    return lambda text: lines.append(str(text))


@pytest.fixture
def keep(run: Run) -> Callable[[str, Picture], None]:
    """Keeps a picture for the report."""

    def kept(name: str, picture: Picture) -> None:
        file = f"smoke-{run.loaded.variant}-{name}.png"
        (run.folder / file).write_bytes(picture.png)
        run.pictures.append(file)

    return kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    result = yield
    if result.when == "call" or (result.when == "setup" and not result.passed):
        found = item.config.stash[RUN]
        lines = [*item.stash.setdefault(EVIDENCE, [])]
        if not result.passed and call.excinfo:
            lines.append(str(call.excinfo.value).splitlines()[0])
        code, said = "", ""
        if result.failed:
            said = _said(found, call.excinfo.value)
            code = named(_own(item, call.excinfo.value), said)
        found.checks.append(
            report.Check(
                name=item.name.removeprefix("test_").replace("_", " "),
                outcome=result.outcome,
                seconds=round(result.duration, 2),
                evidence="; ".join(lines),
                code=code,
                excerpt=excerpt(code, said),
            )
        )
    return result


def _own(item: pytest.Item, error: BaseException) -> str:
    """The code that the check gives its failure."""
    marker = item.get_closest_marker("fails_as")
    return str(getattr(error, "code", "") or (marker.args[0] if marker else ""))


def _said(run: Run, error: BaseException) -> str:
    """Output of the command that failed, or the worker's log."""
    told = getattr(error, "stderr", None)
    if told:
        return str(told.decode("utf-8", "replace"))
    return run.worker.log if run.worker else ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if not run or not run.subject or not run.checks:
        return
    samples = run.worker.samples if run.worker else []
    made = report.made(
        run.subject,
        tuple(run.checks),
        phases=run.worker.phases if run.worker else {},
        memory=tuple(report.Usage(seconds=each.seconds, memory=each.memory) for each in samples),
        pictures=tuple(run.pictures),
    )
    report.write(made, run.folder, run.log)
    say()
    say(report.summary(made))
