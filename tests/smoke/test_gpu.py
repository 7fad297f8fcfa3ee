"""Check what only a GPU can prove; after the checks of the start, before those of the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check
from scripts.common.checks.gpu_checks import GPU_CHECKS, GpuSubject
from tests.smoke.container_under_test import WorkerContainer
from tests.smoke.recording import Run


@pytest.fixture(scope="session")
def gpu_of(started: WorkerContainer, run: Run) -> GpuSubject:
    """The GPUs of the running container."""
    run.gpu = GpuSubject(started.run, lambda: started.log)
    return run.gpu


@pytest.fixture
def gpu(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> GpuSubject:
    """The GPUs of a worker that is ready."""
    if not pytestconfig.getoption("--gpu"):
        pytest.skip("only with a GPU: nox -s gpu_smoke")
    request.getfixturevalue("ready")
    subject: GpuSubject = request.getfixturevalue("gpu_of")
    return subject


@pytest.mark.parametrize("check", GPU_CHECKS, ids=str)
def test_gpu(check: Check[GpuSubject], gpu: GpuSubject, examine: Callable[..., None]) -> None:
    examine(check, gpu)
