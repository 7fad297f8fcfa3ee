"""Take jobs from RunPod's SDK and run each in the WebUI.

A process and a Python environment of its own: the SDK is slow to import, and its packages and the
WebUI's exclude each other. It takes no job before the supervisor reports that an image was drawn.
"""

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.extension_manifest import read_extensions
from scripts.common.webui_client import WebuiClient
from scripts.container.log import log
from scripts.container.paths import choose_job_models_folder
from scripts.container.serverless.answer.job_output import JobResult
from scripts.container.serverless.answer.output_settings import BucketAccess
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.file_check import FileCheck
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.availability.weights_check import WeightPlaces
from scripts.container.serverless.job_context import Job, JobContext
from scripts.container.serverless.job_counter import JobCounter
from scripts.container.serverless.job_downloads.downloaded_models import DownloadedModels
from scripts.container.serverless.job_downloads.job_models import DownloadPolicy
from scripts.container.serverless.job_downloads.model_setup import ModelSetup
from scripts.container.serverless.jobs import run_job
from scripts.container.serverless.request.job_request import InputPolicy
from scripts.container.serverless.request.webui_facts import WebuiFacts
from scripts.container.serverless.webui_exchange import stop_drawing
from scripts.container.settings import Settings
from scripts.container.status.log_findings import Finding, read_findings
from scripts.container.status.state import read_state
from scripts.container.webui.webui_options import save_options

_POLL: Final = 0.05
_ENDED: Final = ("draining", "stopped")
_BUCKET: Final = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY")
"""Variables of the worker's own bucket, named as RunPod's SDK reads them."""


def main(settings: Settings) -> int:
    """Serve until stopped: jobs of the queue, or requests to a load-balancing endpoint."""
    if settings.is_load_balancer:
        from scripts.container.serverless import load_balancer

        return load_balancer.serve(settings, make_context(settings))
    return _serve_queue(settings)


def _serve_queue(settings: Settings) -> int:
    """Serve jobs of the queue; the SDK's arguments are in HANDLER_ARGS."""
    # The preflight has checked GPU, memory and driver; the SDK would take seconds to repeat it.
    os.environ.setdefault("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    os.environ.setdefault("RUNPOD_SKIP_GPU_CHECK", "true")
    # Its own default is DEBUG, which writes every image into the log, twice.
    os.environ.setdefault("RUNPOD_DEBUG_LEVEL", "INFO")
    import runpod  # type: ignore[import-not-found]  # in the handler's own environment only

    context = _with_sdk(settings, runpod)

    def webui_draws() -> None:
        try:
            _wait_until_ready(settings, settings.ready_timeout)
        except UserError:
            if read_state(settings.worker_dir).phase in _ENDED:
                sys.exit(0)  # a worker that is stopped is not unhealthy
            raise
        context.facts.prefetch()

    if "RUNPOD_WEBHOOK_GET_JOB" in os.environ:
        # The SDK runs it before it takes jobs, and tells RunPod what it raises.
        runpod.serverless.register_fitness_check(webui_draws)
    else:  # on other machines it runs no checks
        webui_draws()
    sys.argv[1:] = settings.handler_args
    runpod.serverless.start({"handler": Handler(settings, context).handle})
    return 0


def make_context(settings: Settings) -> JobContext:
    """Return a context for jobs on this worker, without RunPod."""
    client = WebuiClient.local(settings.webui_host, settings.webui_port, settings.api_auth)
    facts = WebuiFacts(client, partial(_identify_webui, settings))
    available = Available(facts, partial(_link_new_models, settings))
    return JobContext(
        client=client,
        facts=facts,
        checks=RequestChecks(available, WeightPlaces.of(settings), FileCheck.of(settings)),
        wait_until_ready=partial(_wait_until_ready, settings),
        replace_webui=partial(_replace_webui, settings),
        time_limit=settings.job_timeout,
        policy=InputPolicy(settings.strict_input == "refuse", _list_allowed(settings)),
        read_log=partial(_read_log, settings.worker_dir),
        bucket=_find_bucket(),
        own_checkpoint=settings.checkpoint_name,
        save_options=partial(save_options, settings),
        models=_make_model_setup(settings) if settings.job_downloads else None,
    )


def _list_allowed(settings: Settings) -> tuple[str, ...]:
    """Return prefixes of the routes that jobs may use, those of the image's extensions included.

    Raises:
        UserError: the list of the image's extensions cannot be read.
    """
    own = (route for extension in read_extensions() for route in extension.routes)
    return (*settings.api_allow, *own)


def _make_model_setup(settings: Settings) -> ModelSetup:
    """Return what models by address need on this worker."""
    unverified = settings.job_downloads_unverified == "on"
    store = DownloadedModels(choose_job_models_folder(settings), settings.job_downloads_max)
    policy = DownloadPolicy(settings.job_downloads, unverified)
    return ModelSetup(policy, settings.data_dir, store)


def _with_sdk(settings: Settings, runpod: Any) -> JobContext:  # noqa: ANN401 - a module
    """Return a context with the progress and unsent results of RunPod's SDK."""
    from runpod.serverless.modules.worker_state import (  # type: ignore[import-not-found]
        JobsProgress,
    )

    has_receiver = "RUNPOD_WEBHOOK_POST_OUTPUT" in os.environ
    return replace(
        make_context(settings),
        report_progress=runpod.serverless.progress_update if has_receiver else None,
        count_unsent=lambda: JobsProgress().get_job_count(),
    )


def _find_bucket() -> BucketAccess | None:
    """Return the worker's bucket; None, with a warning if it is half set, where there is none."""
    values = [os.environ.get(name, "").strip() for name in _BUCKET]
    if all(values):
        return BucketAccess(values[0], values[1], values[2])
    if any(values):
        missing = [name for name, value in zip(_BUCKET, values, strict=True) if not value]
        effect = "images are returned as base64"
        log("bucket-incomplete", level="warning", missing=",".join(missing), effect=effect)
    return None


class LogSafeResult(JobResult):
    """A result with a short repr, so that the SDK's debug log holds no images.

    The SDK formats each result for that log, even when it is off, which takes longer than
    everything else that happens here.
    """

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


class Handler:
    """Handler of the jobs of one worker.

    Args:
        settings: the worker's.
        context: what the jobs run in.
    """

    def __init__(self, settings: Settings, context: JobContext) -> None:
        self._settings, self._context = settings, context
        self._count = JobCounter(settings.worker_dir).add
        self._waiting: set[asyncio.Task[None]] = set()

    async def handle(self, job: Job) -> LogSafeResult:
        """Run one job; no error ends the worker. Called by the SDK."""
        started_at = time.monotonic()
        self._count(running=1)
        result = LogSafeResult(error="stopped")
        try:
            result = LogSafeResult(await asyncio.to_thread(self._run, job))
        except asyncio.CancelledError:
            log("job-cancelled", job=job.get("id", ""))
            await asyncio.to_thread(stop_drawing, self._context.client)
            raise
        finally:
            failed = "error" in result
            self._count(done=not failed, failed=failed, seconds=time.monotonic() - started_at)
            task = asyncio.create_task(self._wait_until_sent())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        return result

    def _run(self, job: Job) -> JobResult:
        try:
            result = run_job(job, self._context)
        except Exception as error:  # a bug of this code must cost one job, not the worker
            log("job-crashed", level="error", job=str(job.get("id", "")), reason=repr(error))
            return {"error": f"the worker failed on this job: {type(error).__name__}: {error}"}
        if result.get("refresh_worker"):
            # Until RunPod replaces the worker, a new WebUI is better than a poisoned one.
            self._context.replace_webui()
        return result

    async def _wait_until_sent(self) -> None:
        """Count a job as running until its result is sent: only then may the worker end."""
        while self._context.count_unsent():
            await asyncio.sleep(_POLL)
        self._count(running=-1)


def _wait_until_ready(settings: Settings, seconds: float) -> None:
    """Return when the supervisor reports that images are drawn.

    Raises:
        UserError: not within these seconds, or the worker ends (code `not-ready`).
    """
    deadline = active_time() + seconds
    while (state := read_state(settings.worker_dir)).phase != "ready":
        if active_time() > deadline or (state.phase in _ENDED and state.supervisor):
            message = f"the WebUI is not ready: {state.reason or state.phase}"
            raise UserError(message, code="not-ready")
        time.sleep(_POLL)


def _identify_webui(settings: Settings) -> tuple[int, int]:
    """Return what is different for each process of the WebUI."""
    state = read_state(settings.worker_dir)
    return state.server, state.restarts


def _replace_webui(settings: Settings) -> None:
    """Have the supervisor start a new WebUI, and wait until it has begun to."""
    state, parent = read_state(settings.worker_dir), os.getppid()
    if state.supervisor != parent:
        return  # started by hand, without a supervisor
    os.kill(parent, signal.SIGUSR1)
    deadline = active_time() + 5
    while active_time() < deadline:
        current = read_state(settings.worker_dir)
        if current.phase != "ready" or current.restarts != state.restarts:
            return
        time.sleep(_POLL)


def _read_log(worker_dir: Path, since: float) -> tuple[Finding, ...]:
    """Return what the WebUI's log has shown since; nothing, with a warning, if nobody reads it."""
    try:
        return read_findings(worker_dir, since)
    except (OSError, ValueError) as error:
        log("log-not-read", level="warning", reason=str(error))
        return ()


def _link_new_models(settings: Settings) -> None:
    """Link the models that have appeared on the volume since the start."""
    from scripts.container.webui.model_links import prepare_models

    try:
        prepare_models(settings)
    except (UserError, OSError) as error:
        log("models-not-linked", level="warning", reason=str(error))
