"""Send jobs to a queue endpoint of RunPod as its customers do, and read their times.

https://docs.runpod.io/serverless/endpoints/operation-reference
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.host.deploy.runpod_api import Json, RunpodApi

_BASE: Final = "https://api.runpod.ai/v2"
_BASE_VARIABLE: Final = "RUNPOD_ENDPOINT_BASE_URL"
"""Variable with another address, as RunPod's SDK reads it."""
_WAIT: Final = 30  # seconds that /runsync holds a request; beyond 90 a proxy would end it
_TEMPORARY: Final = ("runpod-busy", "runpod-lost")
_ENDED: Final = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass(frozen=True)
class Job:
    """A job as the queue describes it.

    Args:
        id: of the job.
        status: IN_QUEUE, IN_PROGRESS, COMPLETED, FAILED, CANCELLED or TIMED_OUT.
        output: of a completed job; empty for an empty one, which RunPod leaves out.
        error: of a failed one.
        delay: seconds in the queue, with the start of a worker; None while it is not known.
        execution: seconds in the worker, likewise.
        worker: ID of the worker; empty while there is none.
    """

    id: str
    status: str
    output: Any = field(default_factory=dict)
    error: str = ""
    delay: float | None = None
    execution: float | None = None
    worker: str = ""

    @property
    def has_ended(self) -> bool:
        """Return whether the status is final."""
        return self.status in _ENDED

    @classmethod
    def parse(cls, fields: Json) -> Job:
        """Read the object that the queue answers with; its times are in milliseconds."""

        def seconds(name: str) -> float | None:
            value = fields.get(name)
            return value / 1000 if isinstance(value, (int, float)) else None

        return cls(
            id=str(fields.get("id") or ""),
            status=str(fields.get("status") or ""),
            output=fields.get("output") or {},
            error=str(fields.get("error") or ""),
            delay=seconds("delayTime"),
            execution=seconds("executionTime"),
            worker=str(fields.get("workerId") or ""),
        )


@dataclass(frozen=True)
class JobQueue:
    """The queue of one endpoint.

    Args:
        api: address of the queues, and the key.
        endpoint: ID of the endpoint.
        poll: seconds between two questions for a job's status.
    """

    api: RunpodApi
    endpoint: str
    poll: float = 1.0

    @classmethod
    def from_environment(cls, endpoint: str, ca_bundle: str = "") -> JobQueue:
        """Take key and address of the environment.

        Raises:
            UserError: there is no key (code `runpod-refused`).
        """
        key = RunpodApi.from_environment().key
        base = os.environ.get(_BASE_VARIABLE, "").rstrip("/") or _BASE
        return cls(RunpodApi(base, key, ca_bundle), endpoint)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self.api.call(method, f"/{self.endpoint}/{path}", body)

    def run(self, given: Mapping[str, Any]) -> Job:
        """Queue a job and return at once."""
        return Job.parse(self._call("POST", "run", {"input": given}))

    def run_sync(self, given: Mapping[str, Any]) -> Job:
        """Queue a job, and wait for half a minute at most."""
        return Job.parse(self._call("POST", f"runsync?wait={_WAIT * 1000}", {"input": given}))

    def status(self, job: Job) -> Job:
        """Ask for a job."""
        return Job.parse(self._call("GET", f"status/{job.id}"))

    def cancel(self, job: Job) -> Job:
        """Cancel a job that waits or runs."""
        return Job.parse(self._call("POST", f"cancel/{job.id}"))

    def count_workers(self) -> int:
        """Return how many workers could take a job at once or after the one that they run."""
        workers = self._call("GET", "health").get("workers", {})
        return sum(int(workers.get(name, 0)) for name in ("idle", "ready", "running"))

    def wait(self, job: Job, seconds: float) -> Job:
        """Ask for a job until it has ended; a question that RunPod does not answer is repeated.

        Raises:
            TimeoutError: it has not in time; it is cancelled.
            UserError: see `RunpodApi.call`.
        """
        deadline = time.monotonic() + seconds
        while not job.has_ended:
            if time.monotonic() > deadline:
                self.cancel(job)
                raise TimeoutError(f"{job.id} is {job.status} after {seconds:.0f} s")
            time.sleep(self.poll)
            try:
                job = self.status(job)
            except UserError as error:
                if error.code not in _TEMPORARY:
                    raise
        return job

    def do(self, given: Mapping[str, Any], seconds: float) -> Job:
        """Run a job by /runsync to its end.

        Raises:
            TimeoutError: it has not ended in time.
            UserError: see `RunpodApi.call`.
        """
        return self.wait(self.run_sync(given), seconds)
