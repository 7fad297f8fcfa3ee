"""Run the smoke checks against an image or an address, and write the report that push requires.

Each test runs one check. What many checks need (a worker that is ready, an API that answers) fails
the first of them only; the others are skipped, so that one fault is one failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from scripts.common.checks.api_checks import GPU_NOISE, ApiSubject
from scripts.common.checks.api_requests import wait_for_api
from scripts.common.checks.check import CheckSkipped, Prerequisite
from scripts.common.checks.image_facts import ImageFacts
from scripts.common.checks.images import Png
from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import WebuiClient
from scripts.host.console import warn
from scripts.host.engine.client import client
from scripts.host.inspect.structure import Structure, model_paths, read_structure
from scripts.host.interruption import raise_on_signals
from scripts.host.models.artifacts import image_artifacts
from tests.smoke.cached_models import cached_volumes
from tests.smoke.container_under_test import WorkerContainer, running_worker
from tests.smoke.endpoint_under_test import EndpointClient
from tests.smoke.image_facts import ask_image
from tests.smoke.recording import (
    RUN,
    Run,
    examine,  # noqa: F401 - a fixture
    group_of,
    pytest_configure,  # noqa: F401 - a hook
    pytest_runtest_makereport,  # noqa: F401 - a hook
    pytest_sessionfinish,  # noqa: F401 - a hook
)
from tests.smoke.target import select_address, select_endpoint, select_image

HERE = Path(__file__).parent
ORDER = ("endpoint", "image", "start", "gpu", "serving", "models", "extensions", "end")
API_TIMEOUT = 15.0  # seconds until the API of a ready worker must answer

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("smoke")
    group.addoption("--image", default="", help="image to test; this checkout's by default")
    group.addoption("--variant", default="", help="a name under `variants`; the image's own")
    group.addoption("--url", default="", help="test a running worker; its login in API_AUTH")
    group.addoption("--endpoint", default="", help="ID of a RunPod endpoint; key: RUNPOD_API_KEY")
    group.addoption("--gpu", default="", help="GPU index, or all; starts the image with it")
    group.addoption("--allow-no-gpu", action="store_true", help="skip where no GPU is available")
    group.addoption("--keep", action="store_true", help="leave the container running")
    group.addoption("--reports", default="", help="folder of the report; reports/ by default")
    if not pluginmanager.hasplugin("timeout"):  # pytest-timeout has an option of the same name
        group.addoption("--timeout", type=float, help="seconds to ready, over smoke.ready_timeout")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Select what is tested before anything runs."""
    options = session.config.option
    if options.collectonly:
        return
    raise_on_signals()  # so that the container goes
    try:
        if options.endpoint:
            target = select_endpoint(options.endpoint, options.variant)
        elif options.url:
            target = select_address(options.url, options.variant)
        else:
            target = select_image(client(), options.image, options.variant, options.gpu)
    except UserError as error:
        if error.code == "gpu-not-visible" and options.allow_no_gpu:
            warn(f"nothing is proven: {error.message}")
            return
        raise pytest.UsageError(str(error)) from None
    folder = Path(options.reports or target.loaded.root / "reports")
    folder.mkdir(parents=True, exist_ok=True)
    whole = _selects_all(session.config)
    background = ThreadPoolExecutor(2)  # what takes long is read beside the first checks

    def ask() -> ImageFacts:
        return ask_image(client(), target.image.id)

    def read_layers() -> Structure:
        models = model_paths(image_artifacts(target.loaded))
        return read_structure(client(), target.image.id, models)

    session.config.stash[RUN] = Run(
        target,
        folder,
        facts=background.submit(ask).result if target.image else ImageFacts,
        structure=background.submit(read_layers).result
        if target.image and whole
        else cache(read_layers),
        whole=whole,
    )
    background.shutdown(wait=False)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the checks of an endpoint where none is tested, and the others' where one is."""
    name = collection_path.stem
    if name == "test_endpoint":
        return True if not config.option.endpoint else None
    by_jobs = ("test_serving",)
    if config.option.endpoint and name.startswith("test_") and name not in by_jobs:
        return True
    return None


def _selects_all(config: pytest.Config) -> bool:
    """Return whether the command line selects every check."""
    folders = [str(Path(arg).resolve()) for arg in config.args]
    return folders == [str(HERE)] and not config.option.keyword and not config.option.markexpr


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put cheap and telling checks first, the stop and the log last."""
    items.sort(key=lambda item: ORDER.index(group_of(item)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (run := items[0].config.stash.get(RUN, None)):
        run.whole = False


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """The run."""
    found = pytestconfig.stash.get(RUN, None)
    if not found:
        pytest.skip("there is no GPU here")
    return found


@pytest.fixture(scope="session")
def image_run(run: Run) -> Run:
    """The run, of an image."""
    if not run.target.image:
        pytest.skip("an address has no image to examine")
    return run


@pytest.fixture(scope="session")
def started(pytestconfig: pytest.Config, image_run: Run) -> Iterator[WorkerContainer]:
    """The image, running as on a pod."""
    run, gpu, keep = image_run, pytestconfig.getoption("--gpu"), pytestconfig.getoption("--keep")
    if run.loaded.config.build.accelerator == "cuda" and not gpu:
        pytest.skip(f"drawing needs a GPU: nox -s gpu_smoke -- --variant {run.loaded.variant}")
    settings = run.target.png_settings
    image = run.target.image.id
    volumes = cached_volumes(run.loaded)
    environment = {"HF_ENDPOINT": run.loaded.config.mirrors.huggingface}
    with running_worker(
        client(), image, gpu, environment=environment, settings=settings, volumes=volumes, keep=keep
    ) as worker:
        run.worker = worker
        yield worker
        run.log = worker.log
        if keep:
            worker.container.start()  # a check has stopped it
            worker.port = 0  # it has another port now, and what forwarded that ends
            run.kept = f"{worker.container.name}, {worker.url}"


@pytest.fixture(scope="session")
def readiness(
    started: WorkerContainer, run: Run, pytestconfig: pytest.Config
) -> Prerequisite[WorkerContainer]:
    """The worker, which becomes ready when the first check asks for it."""

    def wait() -> WorkerContainer:
        smoke = run.loaded.config.smoke
        started.wait_until_ready(pytestconfig.getoption("--timeout") or smoke.ready_timeout)
        return started

    return Prerequisite(wait)


@pytest.fixture
def ready(readiness: Prerequisite[WorkerContainer]) -> WorkerContainer:
    """The worker, once it has drawn its first image."""
    return require(readiness)


@pytest.fixture(scope="session")
def api(pytestconfig: pytest.Config, run: Run) -> Prerequisite[ApiSubject]:
    """The worker's API, which is connected to when the first check asks for it."""
    url, expected = pytestconfig.getoption("--url"), run.target.expectations
    queue = run.target.queue
    gpu = pytestconfig.getoption("--gpu") or url or queue

    def keep(name: str, image: Png) -> None:
        file = f"smoke-{run.target.subject.variant}-{name}.png"
        (run.folder / file).write_bytes(image.data)
        run.images.append(file)

    def connect_client() -> WebuiClient:
        if queue:
            return EndpointClient(queue=queue)
        address = url or (run.worker.url if run.worker else "")
        auth = os.environ.get("API_AUTH", "") if url else ""
        connected = WebuiClient(address, auth, use_proxies=bool(url))
        wait_for_api(connected, (url and pytestconfig.getoption("--timeout")) or API_TIMEOUT)
        return connected

    def connect() -> ApiSubject:
        return ApiSubject(
            connect_client(),
            image_size=expected.image_size,
            steps=expected.steps,
            release=expected.release,
            checkpoint=expected.checkpoint_name,
            tolerance=GPU_NOISE if gpu else 0.0,
            keep=keep,
        )

    return Prerequisite(connect)


@pytest.fixture
def answering(
    request: pytest.FixtureRequest, run: Run, api: Prerequisite[ApiSubject]
) -> ApiSubject:
    """The API of a worker that is ready."""
    if run.target.image:
        request.getfixturevalue("ready")
    return require(api)


def require(needed: Prerequisite[T]) -> T:
    """Return what a test needs, or skip it where that has failed before."""
    try:
        return needed.get()
    except CheckSkipped as reason:
        pytest.skip(str(reason))
