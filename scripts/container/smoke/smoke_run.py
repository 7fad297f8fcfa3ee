"""Run every smoke check that needs no engine, by the code of the nox sessions, and report."""

import base64
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from scripts.common.checks.api_checks import (
    AFTER_JOBS_CHECKS,
    GPU_NOISE,
    JOB_CHECKS,
    ApiSubject,
)
from scripts.common.checks.api_requests import wait_for_api
from scripts.common.checks.check import Check, CheckResult, CheckSkipped, Prerequisite, T
from scripts.common.checks.expectations import Expectations
from scripts.common.checks.extension_checks import ExtensionSubject, extension_checks
from scripts.common.checks.gpu_checks import GPU_CHECKS, GpuSubject
from scripts.common.checks.image_checks import IMAGE_CHECKS, ImageSubject
from scripts.common.checks.image_facts import FACTS_COMMAND, ImageFacts, parse_image_facts
from scripts.common.checks.images import Png
from scripts.common.checks.model_checks import model_checks
from scripts.common.checks.model_subject import make_model_subject
from scripts.common.checks.option_checks import OptionSubject, has_configured_options
from scripts.common.checks.smoke_report import (
    HostRecord,
    RunRecord,
    SmokeBundle,
    SmokeReport,
    SubjectRecord,
    complete_result,
)
from scripts.common.checks.worker_checks import START_CHECKS, log_is_clean, stops_in_time
from scripts.common.checks.worker_under_test import read_settled_log
from scripts.common.extensions.extension_manifest import read_extensions
from scripts.common.webui_client import WebuiClient
from scripts.container.settings import Settings
from scripts.container.smoke.local_worker import LocalWorker, run_command, running_worker

_API_TIMEOUT = 15.0  # seconds until the API of a ready worker must answer


@dataclass
class SmokeRun:
    """A run of the checks.

    Args:
        settings: of this container.
        expected: of its image.
        show: called with each result as soon as it is there.
        checks: results so far.
        images: PNG files as base64, by name.
    """

    settings: Settings
    expected: Expectations
    show: Callable[[CheckResult], None]
    checks: list[CheckResult] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def run(self, environ: Mapping[str, str]) -> SmokeBundle:
        """Start a worker, check it, stop it, and return the report.

        Args:
            environ: environment of the container.
        """
        started, clock = datetime.now(timezone.utc), time.monotonic()
        facts = _read_facts()
        settings, expected, accelerator = self.settings, self.expected, self.settings.accelerator
        image = ImageSubject(
            run_command, lambda: facts, accelerator, expected.targets, expected.checkpoint
        )
        for check in IMAGE_CHECKS:
            self._examine(check, "image", lambda: image)
        options = {**settings.image_settings, **settings.webui_settings}
        png = {} if _answers_with_png(options) else {"samples_format": "png"}
        options |= png
        worker_environ = {
            **environ,
            "WEBUI_SETTINGS": json.dumps({**settings.webui_settings, **png}),
        }
        with running_worker(worker_environ) as worker:
            gpu = GpuSubject(worker.run, lambda: worker.log)
            self._check_worker(worker, gpu, options)
        record = RunRecord(
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - clock, 1),
            host=_describe_host(),
            gpus=gpu.devices,
            versions=facts.versions(expected.release),
            archs=facts.torch.archs,
            phases=worker.phases,
            pictures=tuple(self.images),
        )
        subject = SubjectRecord(
            image="this container's image",
            image_id="",
            variant=expected.variant,
            build_id=settings.build_id,
            self_declared=True,
        )
        report = SmokeReport.of(subject, tuple(self.checks), record)
        return SmokeBundle(report=report, images=self.images, log=worker.log)

    def _check_worker(self, worker: LocalWorker, gpu: GpuSubject, options: dict[str, Any]) -> None:
        expected = self.expected

        def wait() -> LocalWorker:
            worker.wait_until_ready(expected.ready_timeout)
            return worker

        ready = Prerequisite(wait)

        def connect() -> ApiSubject:
            ready.get()
            return self._connect()

        api = Prerequisite(connect)
        models = Prerequisite(
            lambda: make_model_subject(worker, api.get(), expected.models, expected.checkpoint)
        )
        extensions = read_extensions(self.settings.image_extensions / "extensions.json")

        def ready_gpu() -> GpuSubject:
            if self.settings.accelerator != "cuda":
                raise CheckSkipped("this image draws on the processor")
            ready.get()
            return gpu

        def extension_subject() -> ExtensionSubject:
            return ExtensionSubject(api.get(), lambda: read_settled_log(worker))

        for check in START_CHECKS:
            self._examine(check, "start", ready.get, worker)
        for each in GPU_CHECKS:
            self._examine(each, "gpu", ready_gpu, worker)
        for job in JOB_CHECKS:
            self._examine(job, "serving", api.get, worker)
        self._examine(
            has_configured_options,
            "serving",
            lambda: OptionSubject(api.get().client, options),
            worker,
        )
        for job in AFTER_JOBS_CHECKS:
            self._examine(job, "serving", api.get, worker)
        for model in model_checks(expected.models, expected.checkpoint):
            self._examine(model, "models", models.get, worker)
        for extension in extension_checks(extensions):
            self._examine(extension, "extensions", extension_subject, worker)
        self._examine(stops_in_time(expected.stop_timeout), "end", lambda: worker, worker)
        self._examine(log_is_clean, "end", ready.get, worker)

    def _connect(self) -> ApiSubject:
        settings, expected = self.settings, self.expected
        client = WebuiClient.local("127.0.0.1", settings.webui_port, settings.api_auth)
        wait_for_api(client, _API_TIMEOUT)
        return ApiSubject(
            client,
            image_size=expected.image_size,
            steps=expected.steps,
            release=expected.release,
            checkpoint=expected.checkpoint_name,
            tolerance=GPU_NOISE if settings.accelerator == "cuda" else 0.0,
            keep=self._keep,
        )

    def _keep(self, name: str, image: Png) -> None:
        file = f"smoke-{self.expected.variant}-{name}.png"
        self.images[file] = base64.b64encode(image.data).decode()

    def _examine(
        self,
        check: Check[T],
        group: str,
        subject: Callable[[], T],
        worker: LocalWorker | None = None,
    ) -> None:
        """Run a check; whatever its subject raises becomes its result."""
        began = time.monotonic()
        try:
            result = check.run(subject())
        except Exception as error:
            result = check.result_of_error(error)
        seconds = round(time.monotonic() - began, 2)
        log = worker.log if worker else ""
        self.checks.append(complete_result(result, group=group, seconds=seconds, log=log))
        self.show(self.checks[-1])


def _answers_with_png(options: Mapping[str, Any]) -> bool:
    return str(options.get("samples_format", "png")).lower() == "png"


def _read_facts() -> ImageFacts:
    try:
        return parse_image_facts(run_command("sh", "-c", FACTS_COMMAND))
    except Exception:  # a check of its own says why
        return ImageFacts()


def _describe_host() -> HostRecord:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return HostRecord(
        name=platform.node(),
        kernel=f"{platform.release()} {platform.machine()}",
        processors=os.cpu_count() or 0,
        memory=pages * size,
    )
