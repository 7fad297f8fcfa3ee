"""Check that each extension in the image is loaded, and does what its check in the config needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.check import Check, Prerequisite
from scripts.common.checks.extension_checks import ExtensionSubject, extension_checks
from scripts.common.checks.worker_under_test import read_settled_log
from scripts.common.extensions.extension_manifest import BakedExtension
from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig
from tests.smoke.conftest import require
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import RUN, Run


def list_baked_extensions(loaded: LoadedConfig) -> tuple[BakedExtension, ...]:
    """Return the extensions that a config bakes in."""
    return tuple(
        BakedExtension(
            name=each.name,
            repo=each.repo,
            branch="",
            commit=each.commit,
            routes=each.extension.routes,
            check=each.extension.check.declared if each.extension.check else None,
        )
        for each in resolve(loaded).extensions
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each check of the extensions that the config bakes in."""
    run = metafunc.config.stash.get(RUN, None)
    extensions = list_baked_extensions(run.loaded) if run and run.target.image else ()
    metafunc.parametrize("check", extension_checks(extensions), ids=str)


@pytest.fixture(scope="session")
def subject(
    image_run: Run, readiness: Prerequisite[WorkerContainer], api: Prerequisite[ApiSubject]
) -> Prerequisite[ExtensionSubject]:
    """The worker, with the extensions that the config bakes in."""
    assert image_run

    def make() -> ExtensionSubject:
        worker = readiness.get()
        return ExtensionSubject(api.get(), lambda: read_settled_log(worker))

    return Prerequisite(make)


def test_extensions(
    check: Check[ExtensionSubject],
    subject: Prerequisite[ExtensionSubject],
    examine: Callable[..., None],
) -> None:
    examine(check, require(subject))
