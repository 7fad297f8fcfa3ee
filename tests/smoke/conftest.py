"""Runs the smoke tests against an image or an address, and writes the report push asks for.

A check is a test; `@pytest.mark.fails_as(code)` names its failure unless it knows better itself.
What many checks need (a worker that is ready, an API that answers) fails the first of them only;
the others are skipped, so that one fault is one failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.api import Api, Picture
from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import LoadedConfig
from scripts.host.console import warn
from scripts.host.engine.client import client
from scripts.host.inspect.structure import Structure, model_paths, read_structure
from tests.smoke import container_under_test, image_facts, target
from tests.smoke.recording import (
    EVIDENCE,
    RUN,
    Run,
    group_of,
    pytest_runtest_makereport,  # noqa: F401 - a hook
    pytest_sessionfinish,  # noqa: F401 - a hook
)

HERE = Path(__file__).parent
ORDER = ("image", "start", "gpu", "serving", "end")
ANSWER_SECONDS = 15.0


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
    config.addinivalue_line(
        "markers", "fails_as(code): the failure's name in the table of diagnostics"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Settle what is tested before anything runs."""
    options = session.config.option
    if options.collectonly:
        return
    try:
        if options.url:
            chosen = target.at_address(options.url, options.variant)
        else:
            words = target.Words(options.image, options.variant, options.gpu)
            chosen = target.in_image(client(), words)
    except UserError as failure:
        if failure.code == "gpu-not-visible" and options.allow_no_gpu:
            warn(f"nothing is proven: {failure.message}")
            return
        raise pytest.UsageError(str(failure)) from None
    folder = Path(options.reports or chosen.loaded.root / "reports")
    folder.mkdir(parents=True, exist_ok=True)
    beside = ThreadPoolExecutor(2)  # what takes long, while the first checks run
    layers = beside.submit(_layers, chosen) if chosen.image and _whole(session.config) else None
    run = Run(chosen, folder, beside.submit(_facts, chosen), layers)
    beside.shutdown(wait=False)
    session.config.stash[RUN] = run
    run.whole = _whole(session.config)


def _whole(config: pytest.Config) -> bool:
    """Whether the command line asks for every check."""
    here = [str(Path(arg).resolve()) for arg in config.args]
    return here == [str(HERE)] and not config.option.keyword and not config.option.markexpr


def _facts(chosen: target.Chosen) -> dict[str, Any]:
    return image_facts.ask(client(), chosen.image.id) if chosen.image else {}


def _layers(chosen: target.Chosen) -> Structure:
    return read_structure(client(), chosen.image.id, model_paths(chosen.loaded.config.models))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is cheap and tells most goes first; the stop and the log come last."""
    items.sort(key=lambda item: ORDER.index(group_of(item)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (run := items[0].config.stash.get(RUN, None)):
        run.whole = False


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """What is tested."""
    found = pytestconfig.stash.get(RUN, None)
    if not found:
        pytest.skip("there is no GPU here")
    return found


@pytest.fixture(scope="session")
def loaded(run: Run) -> LoadedConfig:
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
def inspection(run: Run, image: Any) -> Structure:
    """All layers above the base, read once."""
    assert image
    return run.layers.result() if run.layers else _layers(run.chosen)


@pytest.fixture(scope="session")
def started(
    pytestconfig: pytest.Config, image: Any, run: Run
) -> Iterator[container_under_test.Worker]:
    """The image, started as on a pod."""
    gpu = pytestconfig.getoption("--gpu")
    if run.chosen.loaded.config.build.accelerator == "cuda" and not gpu:
        variant = run.chosen.loaded.variant
        pytest.skip(f"drawing needs a GPU: nox -s gpu_smoke -- --variant {variant}")
    keep = pytestconfig.getoption("--keep")
    with container_under_test.running_worker(client(), image.id, gpu, keep=keep) as worker:
        run.worker = worker
        yield worker
        run.log = worker.log
        if keep:
            worker.container.start()  # a check has stopped it
            run.kept = f"{worker.container.name}, {worker.url}"


@pytest.fixture(scope="session")
def readiness(
    started: container_under_test.Worker, loaded: LoadedConfig, pytestconfig: pytest.Config
) -> list[UserError]:
    """Why the worker did not get ready, once it had its time; empty when it did."""
    limit = pytestconfig.getoption("--timeout") or loaded.config.smoke.ready_timeout
    try:
        started.wait_until_ready(limit)
    except UserError as failure:
        return [failure]
    return []


@pytest.fixture
def ready(
    started: container_under_test.Worker, readiness: list[UserError], run: Run
) -> container_under_test.Worker:
    """The worker, once it has drawn."""
    run.needs(next(iter(readiness), None))
    return started


@pytest.fixture(scope="session")
def answering(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, run: Run
) -> tuple[Api, list[UserError]]:
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
        except UserError as failure:
            return Api(""), [failure]
    api = Api(url, auth=os.environ.get("API_AUTH", "") if run.chosen.image is None else "")
    try:
        api.wait(patience)
        run.gpu_used = api.gpu_used()  # before the first picture that is asked for here
    except UserError as failure:
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
