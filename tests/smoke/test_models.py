"""Check that each model in the image is used: a job with it differs from the same without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.check import Check, Prerequisite
from scripts.common.checks.model_checks import ModelSubject, model_checks
from scripts.host.config.model_place import CHECKPOINT_PATH
from tests.smoke.baked_models import list_baked_models, make_subject
from tests.smoke.conftest import require
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import RUN, Run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each check of the models that the config bakes in."""
    run = metafunc.config.stash.get(RUN, None)
    models = list_baked_models(run.loaded) if run and run.target.image else ()
    metafunc.parametrize("check", model_checks(models, CHECKPOINT_PATH), ids=str)


@pytest.fixture(scope="session")
def subject(
    image_run: Run, readiness: Prerequisite[WorkerContainer], api: Prerequisite[ApiSubject]
) -> Prerequisite[ModelSubject]:
    """The worker, with the models that the config bakes in."""
    models = list_baked_models(image_run.loaded)
    return Prerequisite(lambda: make_subject(readiness.get(), api.get(), models))


def test_models(
    check: Check[ModelSubject], subject: Prerequisite[ModelSubject], examine: Callable[..., None]
) -> None:
    examine(check, require(subject))
