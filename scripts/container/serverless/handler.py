"""Takes RunPod's jobs through RunPod's own SDK and hands each to `jobs.run`.

A process of its own, in an environment of its own: the SDK is slow to import and its packages and
the WebUI's exclude each other. It takes no job before the supervisor says that a picture was drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_client import WebuiClient
from scripts.container.log import log
from scripts.container.serverless import jobs
from scripts.container.settings import Settings
from scripts.container.status.state import Jobs, read_state, write_jobs

_POLL: Final = 0.05
_ENDED: Final = ("draining", "stopped")
_BUCKET: Final = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY")


def main(settings: Settings) -> int:
    """Serve jobs until told to stop; the SDK's words come from HANDLER_ARGS.

    Args:
        settings: the worker's.
    """
    # The preflight has judged GPU, memory and driver; the SDK would spend seconds to do it again.
    os.environ.setdefault("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    os.environ.setdefault("RUNPOD_SKIP_GPU_CHECK", "true")
    # Its own default is DEBUG, which writes every picture into the log, twice.
    os.environ.setdefault("RUNPOD_DEBUG_LEVEL", "INFO")
    import runpod  # type: ignore[import-not-found]  # in the handler's own environment only

    _wait_until_ready(settings, settings.ready_timeout)
    sys.argv[1:] = settings.handler_args
    runpod.serverless.start({"handler": Handler(settings, _sdk(runpod)).handle})
    return 0


class Sdk:
    """The parts of RunPod's SDK that a job needs.

    Args:
        report: sends progress of a job.
        upload: stores a picture of a job, None where no bucket is configured.
        unsent: how many jobs the SDK still has to answer.
    """

    def __init__(
        self,
        report: Callable[[dict[str, Any], object], None] | None,
        upload: Callable[[str, bytes, str], str] | None,
        unsent: Callable[[], int],
    ) -> None:
        self.report, self.upload, self.unsent = report, upload, unsent


def _sdk(runpod: Any) -> Sdk:  # noqa: ANN401 - a module
    from runpod.serverless.modules.worker_state import (  # type: ignore[import-not-found]
        JobsProgress,
    )
    from runpod.serverless.utils import rp_upload  # type: ignore[import-not-found]

    def upload(job: str, picture: bytes, suffix: str) -> str:
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(picture)
            file.flush()
            return str(rp_upload.upload_image(job, file.name))

    stores = all(os.environ.get(name) for name in _BUCKET)
    listens = "RUNPOD_WEBHOOK_POST_OUTPUT" in os.environ
    return Sdk(
        report=runpod.serverless.progress_update if listens else None,
        upload=upload if stores else None,
        unsent=lambda: JobsProgress().get_job_count(),
    )


class Result(dict[str, Any]):
    """A result that the SDK cannot print: it formats each one for its debug log, even when off.

    That takes longer than all else that is done here, and pictures have no place in a log.
    """

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


class Handler:
    """What the SDK calls for each job.

    Args:
        settings: the worker's.
        sdk: the SDK's helpers.
    """

    def __init__(self, settings: Settings, sdk: Sdk) -> None:
        self._settings, self._sdk = settings, sdk
        self._api = WebuiClient.local(settings.host, settings.port, settings.api_auth)
        self._record, self._lock = Jobs(), threading.Lock()
        self._settling: set[asyncio.Task[None]] = set()
        self._note()

    async def handle(self, job: dict[str, Any]) -> Result:
        """Do one job. Whatever happens, the worker lives."""
        began = time.monotonic()
        self._note(running=1)
        result = Result(error="stopped")
        try:
            result = Result(await asyncio.to_thread(self._run, job))
        except asyncio.CancelledError:
            log("job-cancelled", job=job.get("id", ""))
            await asyncio.to_thread(jobs.stop_drawing, self._api)
            raise
        finally:
            bad = "error" in result
            self._note(done=not bad, failed=bad, seconds=time.monotonic() - began)
            task = asyncio.create_task(self._settle())
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        return result

    def _run(self, job: dict[str, Any]) -> dict[str, Any]:
        report, upload, name = self._sdk.report, self._sdk.upload, str(job.get("id", ""))
        around = jobs.Surroundings(
            wait_until_ready=lambda seconds: _wait_until_ready(self._settings, seconds),
            replace_webui=lambda: _replace_webui(self._settings),
            progress=(lambda words: report(job, words)) if report else None,
            upload=(lambda data, suffix: upload(name, data, suffix)) if upload else None,
            longest=self._settings.job_timeout,
        )
        try:
            result = jobs.run(job, self._api, around)
        except Exception as error:  # a fault of ours must cost one job, not the worker
            log("job-crashed", level="error", job=name, reason=repr(error))
            return {"error": f"the worker failed on this job: {type(error).__name__}: {error}"}
        if result.get("refresh_worker"):
            # Until RunPod replaces the worker, a new WebUI is better than a poisoned one.
            _replace_webui(self._settings)
        return result

    async def _settle(self) -> None:
        """A job runs until its result is sent: the supervisor ends the worker only after that."""
        while self._sdk.unsent():
            await asyncio.sleep(_POLL)
        self._note(running=-1)

    def _note(self, running: int = 0, done: int = 0, failed: int = 0, seconds: float = 0) -> None:
        with self._lock:
            was = self._record
            self._record = replace(
                was,
                running=was.running + running,
                done=was.done + done,
                failed=was.failed + failed,
                seconds=was.seconds + seconds,
            )
            with contextlib.suppress(OSError):  # a full disk: no number is worth a job
                write_jobs(self._settings.worker_dir, self._record)


def _wait_until_ready(settings: Settings, seconds: float) -> None:
    """Return when the supervisor says that pictures are drawn.

    Raises:
        UserError: it does not within these seconds, or the worker ends (code `not-ready`).
    """
    deadline = time.monotonic() + seconds
    while (state := read_state(settings.worker_dir)).phase != "ready":
        if time.monotonic() > deadline or (state.phase in _ENDED and state.supervisor):
            raise UserError(
                f"the WebUI is not ready: {state.reason or state.phase}",
                code="not-ready",
            )
        time.sleep(_POLL)


def _replace_webui(settings: Settings) -> None:
    """Have the supervisor start a new WebUI, and wait until it has begun to."""
    state, parent = read_state(settings.worker_dir), os.getppid()
    if state.supervisor != parent:
        return  # run by hand, without a supervisor
    os.kill(parent, signal.SIGUSR1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        now = read_state(settings.worker_dir)
        if now.phase != "ready" or now.restarts != state.restarts:
            return
        time.sleep(_POLL)
