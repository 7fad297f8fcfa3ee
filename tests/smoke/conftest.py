"""Runs the smoke tests against an image or an address, and writes the report push asks for.

A check is a test; `@pytest.mark.fails_as(code)` names its failure unless it knows better itself.
What many checks need (a worker that is ready, an API that answers) fails the first of them only;
the others are skipped, so that one fault is one failure.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import Failure
from scripts.host.config.load import Loaded
from scripts.host.console import say, warn
from scripts.host.docker.engine import client
from scripts.host.smoke import facts, report, show, subject, worker
from scripts.host.smoke.api import Api, Picture
from scripts.host.smoke.gpu import Device
from scripts.host.smoke.naming import excerpt, named

HERE = Path(__file__).parent
ORDER = ("image", "start", "gpu", "serving", "end")
EVIDENCE = pytest.StashKey["list[str]"]()
SETUP_SECONDS = pytest.StashKey[float]()
ANSWER_SECONDS = 15.0


@dataclass
class Run:
    """What is tested, and what was found so far."""

    chosen: subject.Chosen
    folder: Path
    told: Future[dict[str, Any]]
    began: float = field(default_factory=time.monotonic)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    worker: worker.Worker | None = None
    gpus: tuple[Device, ...] = ()
    gpu_used: int = 0
    log: str = ""
    whole: bool = True
    blamed: set[str] = field(default_factory=set)
    checks: list[report.Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def needs(self, failure: Failure | None) -> None:
        """Fail the first check that meets a failure, skip every other one."""
        if failure is None:
            return
        if failure.what in self.blamed:
            pytest.skip(failure.what)
        self.blamed.add(failure.what)
        raise failure


RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--image", default="", help="image to test; this checkout's by default")
    group.addoption("--variant", default="", help="a name under `variants`; the image's own")
    group.addoption("--url", default="", help="test a running worker; its login in API_AUTH")
    group.addoption("--gpu", default="", help="GPU index, or all; starts the image with it")
    group.addoption("--allow-no-gpu", action="store_true", help="skip where no GPU is to be had")
    group.addoption("--keep", action="store_true", help="leave the container running")
    group.addoption("--reports", default="", help="folder of the report; reports/ by default")
    if not pluginmanager.hasplugin("timeout"):  # pytest-timeout has an option of the same name
        group.addoption("--timeout", type=float, help="seconds to ready, over smoke.ready_timeout")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fails_as(code): the failure's name in findings.py")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Settle what is tested before anything runs."""
    options = session.config.option
    if options.collectonly:
        return
    try:
        if options.url:
            chosen = subject.at_address(options.url, options.variant)
        else:
            words = subject.Words(options.image, options.variant, options.gpu)
            chosen = subject.in_image(client(), words)
    except Failure as failure:
        if failure.code == "gpu-not-visible" and options.allow_no_gpu:
            warn(f"nothing is proven: {failure.what}")
            return
        raise pytest.UsageError(str(failure)) from None
    folder = Path(options.reports or chosen.loaded.root / "reports")
    folder.mkdir(parents=True, exist_ok=True)
    beside = ThreadPoolExecutor(1)
    run = Run(chosen, folder, beside.submit(_facts, chosen))
    beside.shutdown(wait=False)
    session.config.stash[RUN] = run
    here = [str(Path(arg.partition("::")[0]).resolve()) for arg in session.config.args]
    run.whole = here == [str(HERE)] and "::" not in "".join(session.config.args)


def _facts(chosen: subject.Chosen) -> dict[str, Any]:
    return facts.ask(client(), chosen.image.id) if chosen.image else {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is cheap and tells most goes first; the stop and the log come last."""
    items.sort(key=lambda item: ORDER.index(_group(item)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (run := items[0].config.stash.get(RUN, None)):
        run.whole = False


def _group(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """What is tested."""
    found = pytestconfig.stash.get(RUN, None)
    if not found:
        pytest.skip("there is no GPU here")
    return found


@pytest.fixture(scope="session")
def loaded(run: Run) -> Loaded:
    """The config of the variant under test."""
    return run.chosen.loaded


@pytest.fixture(scope="session")
def image(run: Run) -> Any:
    """The image under test, as the SDK knows it."""
    if not run.chosen.image:
        pytest.skip("an address has no image to look into")
    return run.chosen.image


@pytest.fixture(scope="session")
def told(run: Run, image: Any) -> dict[str, Any]:
    """What the image's Python and torch say of themselves."""
    assert image
    return run.told.result()


@pytest.fixture(scope="session")
def started(pytestconfig: pytest.Config, image: Any, run: Run) -> Iterator[worker.Worker]:
    """The image, started as on a pod."""
    gpu = pytestconfig.getoption("--gpu")
    if run.chosen.loaded.config.build.accelerator == "cuda" and not gpu:
        pytest.skip("drawing needs a GPU: nox -s gpu_smoke")
    run.worker = worker.start(client(), image.id, gpu)
    yield run.worker
    run.log = run.worker.log
    if not pytestconfig.getoption("--keep"):
        run.worker.container.remove(force=True, v=True)


@pytest.fixture(scope="session")
def readiness(started: worker.Worker, loaded: Loaded, pytestconfig: pytest.Config) -> list[Failure]:
    """Why the worker did not get ready, once it had its time; empty when it did."""
    limit = pytestconfig.getoption("--timeout") or loaded.config.smoke.ready_timeout
    try:
        started.wait_until_ready(limit)
    except Failure as failure:
        return [failure]
    return []


@pytest.fixture
def ready(started: worker.Worker, readiness: list[Failure], run: Run) -> worker.Worker:
    """The worker, once it has drawn."""
    run.needs(next(iter(readiness), None))
    return started


@pytest.fixture(scope="session")
def answering(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, run: Run
) -> tuple[Api, list[Failure]]:
    """The worker's API, and why it does not answer, if so."""
    url = pytestconfig.getoption("--url")
    patience = ANSWER_SECONDS
    if url:
        patience = pytestconfig.getoption("--timeout") or patience
    else:
        ready = request.getfixturevalue("started")
        request.getfixturevalue("readiness")
        try:
            url = ready.url
        except Failure as failure:
            return Api(""), [failure]
    api = Api(url, auth=os.environ.get("API_AUTH", "") if run.chosen.image is None else "")
    try:
        api.wait(patience)
        run.gpu_used = api.gpu_used()  # before the first picture that is asked for here
    except Failure as failure:
        return api, [failure]
    return api, []


@pytest.fixture
def api(request: pytest.FixtureRequest, run: Run) -> Api:
    """The worker's API, answering."""
    if run.chosen.image:
        request.getfixturevalue("ready")
    found: Api
    found, failures = request.getfixturevalue("answering")
    run.needs(next(iter(failures), None))
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
        file = f"smoke-{run.chosen.subject.variant}-{name}.png"
        (run.folder / file).write_bytes(picture.png)
        run.pictures.append(file)

    return kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    result = yield
    run = item.config.stash.get(RUN, None)
    if result.when == "setup":  # the wait for what a check needs is a part of it
        item.stash[SETUP_SECONDS] = result.duration
    before = item.stash[SETUP_SECONDS] if result.when == "call" else 0.0
    if run and (result.when == "call" or not result.passed):
        lines = [*item.stash.setdefault(EVIDENCE, [])]
        if not result.passed and call.excinfo:
            lines.append(_in_words(call.excinfo.value))
        code, said = "", ""
        if result.failed:
            said = _said(run, call.excinfo.value)
            code = named(_own(item, call.excinfo.value), said)
        run.checks.append(
            report.Check(
                name=item.name.removeprefix("test_").replace("_", " "),
                outcome=result.outcome,
                seconds=round(before + result.duration, 2),
                group=_group(item),
                evidence="; ".join(lines),
                code=code,
                excerpt=excerpt(code, said),
            )
        )
    return result


def _in_words(error: BaseException) -> str:
    """What a failure says, on one line; a failed command's last words."""
    text = getattr(error, "what", "") or _stderr(error) or str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[-1] if _stderr(error) else lines[0]


def _stderr(error: BaseException) -> str:
    told = getattr(error, "stderr", None) or b""
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def _own(item: pytest.Item, error: BaseException) -> str:
    """The code that the check gives its failure."""
    marker = item.get_closest_marker("fails_as")
    return str(getattr(error, "code", "") or (marker.args[0] if marker else ""))


def _said(run: Run, error: BaseException) -> str:
    """Output of the command that failed, or the worker's log."""
    return _stderr(error) or (run.worker.log if run.worker else "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if not run or not run.checks:
        return
    release = run.chosen.loaded.config.a1111.release
    found = run.worker
    scene = report.Scene(
        started=run.started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - run.began, 1),
        # Interrupted, or stopped at the first failure: not every check had its turn.
        whole=run.whole and len(run.checks) == session.testscollected,
        host=facts.host_of(client()) if run.chosen.image else report.Host(),
        gpus=run.gpus,
        versions=facts.versions(run.told.result(), release) if run.chosen.image else {},
        phases=found.phases if found else {},
        memory=tuple(found.samples) if found else (),
        pictures=tuple(run.pictures),
    )
    made = report.made(run.chosen.subject, tuple(run.checks), scene)
    path = report.write(made, run.folder, run.log or (found.log if found else ""))
    say()
    say(show.summary(made, shutil.get_terminal_size((100, 24)).columns))
    say(f"report: {os.path.relpath(path.with_suffix('.html'))}")
    if not made.passed:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
