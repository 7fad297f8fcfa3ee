"""Define the keys below `deploy` in `config.yaml`: the RunPod endpoint of a variant.

Limits are those of RunPod's REST API v2: https://api.runpod.io/v2/openapi.json
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from scripts.common.secrets import is_secret
from scripts.host.config.grammar import Matching
from scripts.host.config.model_schema import Section

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
CudaVersion = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
RunPodId = Annotated[str, Matching(r"[A-Za-z0-9_-]+", "an ID as RunPod's console shows it")]

_PLACEHOLDER = re.compile(r"\{\{.*\}\}", re.DOTALL)


def _check_plain(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if is_secret(name) or _PLACEHOLDER.search(value):
            raise ValueError(f"{name} is a secret: name RunPod's secret under deploy.secrets")
    return env


class Workers(Section):
    """Number of workers, and how long an idle one stays."""

    min: int = Field(default=0, ge=0)
    """Workers that always run, and are always paid."""
    max: int = Field(default=3, ge=1)
    """Workers at most; RunPod advises two more than you expect to need."""
    idle_timeout: int = Field(default=10, ge=1, le=3600)
    """Seconds that a worker without jobs stays, and is paid."""

    @model_validator(mode="after")
    def _at_most_is_most(self) -> Workers:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Deploy(Section):
    """The serverless endpoint that `invoke deploy` creates or updates."""

    name: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Name of the endpoint; null: a1111- and the variant."""
    endpoint: RunPodId | None = None
    """ID of an existing endpoint to update; null: the one that was created from this checkout."""
    pools: tuple[str, ...] = Field(
        default=("AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO"), min_length=1
    )
    """GPU pools that may run it; RunPod is given them in order of price."""
    excluded_gpus: tuple[str, ...] = ()
    """Types of GPU in these pools that may not, such as NVIDIA L40."""
    min_cuda: CudaVersion | None = None
    """Lowest CUDA version of a host's driver; null: that of base.runtime's name."""
    disk: int | None = Field(default=None, ge=1)
    """GB of the container's disk; null: a quarter more than the image, and 5 GB."""
    volumes: tuple[RunPodId, ...] = ()
    """IDs of network volumes; they tie the endpoint to their data centres."""
    data_centers: tuple[RunPodId, ...] = ()
    """The only data centres that may run it; []: any."""
    registry: RunPodId | None = None
    """ID of the registry credentials at RunPod, for a private image."""
    workers: Workers = Field(default_factory=Workers)
    queue_delay: float = Field(default=4, ge=0.5)
    """Seconds that a job waits before a further worker starts."""
    timeout: int = Field(default=660, ge=5)
    """Seconds until RunPod ends a job; more than JOB_TIMEOUT, which says why."""
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] = "FLASHBOOT"
    """Whether RunPod keeps the state of stopped workers for faster starts."""
    env: Annotated[dict[VariableName, str], AfterValidator(_check_plain)] = Field(
        default_factory=dict
    )
    """The worker's environment; no secrets."""
    secrets: dict[VariableName, SecretName] = Field(default_factory=dict)
    """Name of RunPod's secret for each variable that holds one."""

    @model_validator(mode="after")
    def _worker_gives_up_first(self) -> Deploy:
        limit = self.env.get("JOB_TIMEOUT", "")
        if limit.isdecimal() and int(limit) >= self.timeout:
            raise ValueError(f"timeout {self.timeout} is not above env.JOB_TIMEOUT {limit}")
        return self
