"""Check that each model in the image is used: a job with it differs from the same without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.check import Check, Prerequisite
from scripts.common.checks.expectations import Expectations
from scripts.common.checks.model_checks import ModelSubject, model_checks
from scripts.common.checks.model_subject import make_model_subject
from tests.smoke.conftest import require
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import RUN, Run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each check of the models that the config bakes in."""
    run = metafunc.config.stash.get(RUN, None)
    expected = run.target.expectations if run else Expectations()
    checks = model_checks(expected.models, expected.checkpoint)
    metafunc.parametrize("check", checks, ids=str)


@pytest.fixture(scope="session")
def subject(
    image_run: Run, readiness: Prerequisite[WorkerContainer], api: Prerequisite[ApiSubject]
) -> Prerequisite[ModelSubject]:
    """The worker, with the models that the config bakes in."""
    expected = image_run.target.expectations

    def make() -> ModelSubject:
        worker = readiness.get()
        return make_model_subject(worker, api.get(), expected.models, expected.checkpoint)

    return Prerequisite(make)


def test_models(
    check: Check[ModelSubject], subject: Prerequisite[ModelSubject], examine: Callable[..., None]
) -> None:
    examine(check, require(subject))
