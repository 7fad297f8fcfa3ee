"""Define the context that jobs share: the WebUI's client, limits and callbacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.answer.bucket import Upload, open_bucket
from scripts.container.serverless.answer.job_output import JobResult
from scripts.container.serverless.answer.output_settings import BucketAccess
from scripts.container.serverless.availability.request_checks import RequestChecks
from scripts.container.serverless.job_downloads.model_setup import ModelSetup
from scripts.container.serverless.request.job_request import InputPolicy
from scripts.container.serverless.request.webui_facts import WebuiFacts
from scripts.container.status.log_findings import Finding

Job = dict[str, Any]
"""A job as RunPod sends it, with `id` and `input`."""


@dataclass(frozen=True)
class JobContext:
    """Client, limits and callbacks that jobs run with.

    Args:
        client: of the WebUI.
        facts: about the running WebUI.
        checks: of what requests name.
        wait_until_ready: returns within the given seconds when images can be drawn, or raises
            UserError.
        replace_webui: has the supervisor start a new WebUI.
        time_limit: seconds that a job may take.
        policy: what inputs may hold.
        read_log: returns the known failures in what the WebUI has printed since a monotonic time.
            It works on one job at a time, as RunPod's SDK sends them, so they are that job's.
        report_progress: sends progress of a job; None when nobody receives it.
        bucket: of the worker, where images are uploaded; None to return base64.
        open_bucket: opens a bucket for the job of an id.
        own_checkpoint: name in the WebUI of the image's own checkpoint.
        save_options: writes options into the file that the WebUI reads at start.
        models: what models by address need; None where jobs may name none.
        count_unsent: returns how many results RunPod's SDK has not sent yet.
    """

    client: WebuiClient
    facts: WebuiFacts
    checks: RequestChecks
    wait_until_ready: Callable[[float], None]
    replace_webui: Callable[[], None]
    time_limit: float = 600.0
    policy: InputPolicy = field(default_factory=InputPolicy)
    read_log: Callable[[float], Sequence[Finding]] = lambda _: ()
    report_progress: Callable[[Job, JobResult], None] | None = None
    bucket: BucketAccess | None = None
    open_bucket: Callable[[BucketAccess, str], Upload] = open_bucket
    own_checkpoint: str = ""
    save_options: Callable[[Mapping[str, Any]], None] = lambda _: None
    models: ModelSetup | None = None
    count_unsent: Callable[[], int] = lambda: 0
