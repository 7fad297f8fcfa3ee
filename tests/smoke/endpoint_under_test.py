"""Send the checks' requests to a RunPod endpoint as jobs, and find what an image costs there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from scripts.common.checks.api_requests import DrawnImage
from scripts.common.checks.images import decode_base64, decode_png
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import refine_code
from scripts.common.webui_client import Response, WebuiClient
from scripts.host.deploy.runpod_api import RunpodApi
from tests.smoke.job_queue import Job, JobQueue
from tests.support.job_adapter import make_input, make_response

TIMEOUT = 1800.0  # seconds of a job; the first one waits for a worker that downloads the image
OUTPUT = {"format": "png", "delivery": "base64"}
"""Images as the checks judge them, whatever the endpoint is set up with."""


@dataclass(frozen=True)
class EndpointClient(WebuiClient):
    """A client whose requests are jobs of a queue."""

    url: str = ""
    queue: JobQueue = field(kw_only=True)

    def request(
        self, method: str, path: str, body: object = None, *, timeout: float = TIMEOUT
    ) -> Response:
        """Run a request as a job; its result has A1111's own status and shape.

        Raises:
            TimeoutError: the job has not ended in time.
            UserError: RunPod refuses, or does not answer.
        """
        data = b"" if body is None else json.dumps(body).encode()
        given = make_input(method, path, data)
        if method == "POST" and path.endswith("2img"):
            given["output"] = OUTPUT
        job = self.queue.do(given, max(timeout, TIMEOUT))
        if job.status == "COMPLETED":
            status, content = make_response({"output": job.output})
        else:
            status, content = make_response({"error": job.error or job.status})
        return Response(status, json.dumps(content).encode())


@dataclass
class EndpointSubject:
    """An endpoint, and what its jobs have shown.

    Args:
        queue: its queue.
        management: RunPod's REST API.
        image_size: edge of the images, pixels.
        workers_before: workers that were there before the first job.
        jobs: completed jobs by what they show.
    """

    queue: JobQueue
    management: RunpodApi
    image_size: int
    workers_before: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)

    def make_job(self, **changes: Any) -> dict[str, Any]:
        """Return the input of a job that draws one image, as large as customers' are."""
        size = {"width": self.image_size, "height": self.image_size}
        job = {"prompt": "a lighthouse at dusk", "seed": 1234, "steps": 20, "output": OUTPUT}
        return {**job, **size, **changes}

    def read_image(self, job: Job) -> DrawnImage:
        """Return the image of a job.

        Raises:
            UserError: the job did not complete, or its answer holds no image.
        """
        if job.status != "COMPLETED":
            reason = job.error or "no reason given"
            raise UserError(f"{job.status}: {reason}", code=refine_code("not-drawn", reason))
        try:
            return DrawnImage(decode_png(decode_base64(job.output["images"][0])))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            message = f"the answer holds no picture: {error!r}"
            raise UserError(message, code="picture-broken") from None

    def find_price(self, job: Job) -> tuple[float, str]:
        """Return the listed price of a job's worker, in dollars an hour, and the name of its GPU.

        Where the worker has stopped meanwhile, it is the highest price of the endpoint's pools.

        Raises:
            UserError: the catalogue has no price, or see `RunpodApi.call`.
        """
        path = f"/v2/serverless/{self.queue.endpoint}"
        workers = self.management.call("GET", f"{path}/workers").get("workers", ())
        gpu = next((each.get("gpuTypeId") for each in workers if each.get("id") == job.worker), "")
        pools = self.management.call("GET", path).get("gpu", {}).get("pools", ())
        cards = self.management.call("GET", "/v2/catalog/gpus").get("gpus", ())
        prices = {
            (float(card["price"]["serverless"]), str(card["name"]))
            for card in cards
            if card.get("price", {}).get("serverless")
            and (card["id"] == gpu if gpu else card.get("pool") in pools)
        }
        if not prices:
            raise UserError(f"RunPod's catalogue has no price for {gpu or ', '.join(pools)}")
        price, name = max(prices)
        return price, name if gpu else f"{name}, the dearest of its pools,"


def describe_times(job: Job) -> str:
    """Return delay and execution time of a job."""

    def seconds(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.1f} s"

    return f"delay {seconds(job.delay)}, execution {seconds(job.execution)}"
