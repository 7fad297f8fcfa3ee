"""Check the worker's API, as its users call it: it works when it has drawn an image."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.api_checks import AFTER_JOBS_CHECKS, JOB_CHECKS, ApiSubject
from scripts.common.checks.check import Check
from scripts.common.checks.option_checks import OptionSubject, has_configured_options
from tests.smoke.recording import Run


@pytest.mark.parametrize("check", JOB_CHECKS, ids=str)
def test_serving(
    check: Check[ApiSubject], answering: ApiSubject, examine: Callable[..., None]
) -> None:
    examine(check, answering)


@pytest.mark.parametrize("check", [has_configured_options], ids=str)
def test_options(
    check: Check[OptionSubject],
    answering: ApiSubject,
    run: Run,
    examine: Callable[..., None],
) -> None:
    options = {**run.target.options, **run.target.png_settings}
    examine(check, OptionSubject(answering.client, options))


# Before the checks of models: the WebUI keeps upscalers and face restorers in the GPU's memory.
@pytest.mark.parametrize("check", AFTER_JOBS_CHECKS, ids=str)
def test_memory(
    check: Check[ApiSubject], answering: ApiSubject, run: Run, examine: Callable[..., None]
) -> None:
    if run.target.queue:
        pytest.skip("each job may have another worker")
    examine(check, answering)
