"""Parse the models that a job names by address.

{"prompt": "…", "loras": [{"url": "https://…", "sha256": "…", "weight": 0.8}],
 "checkpoint": {"url": "https://…", "sha256": "…"}}
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ArtifactSpec

MAX_WEIGHT: Final = 100.0
"""Largest weight of a LoRA that is taken, positive or negative; useful ones are about 1."""

_MAX_LORAS: Final = 20
_SUFFIX: Final = ".safetensors"
_CODE: Final = "input-invalid"
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class DownloadPolicy:
    """Limits that the worker's settings put on models by address.

    Args:
        hosts: that an address may name; redirects may lead to any public one.
        allows_unverified: a checksum is not required.
    """

    hosts: tuple[str, ...] = ()
    allows_unverified: bool = False


@dataclass(frozen=True)
class JobModel:
    """A model that a job names by address.

    Args:
        field: of the job, for messages.
        kind: of the model.
        url: its address.
        sha256: its SHA-256; empty if the job gives none.
        weight: of a LoRA.
    """

    field: str
    kind: Literal["lora", "checkpoint"]
    url: str
    sha256: str = ""
    weight: float = 1.0

    @property
    def key(self) -> str:
        """Return what the file is kept under: its SHA-256; without one that of its address."""
        return self.sha256 or f"address-{hashlib.sha256(self.url.encode()).hexdigest()}"

    @property
    def spec(self) -> ArtifactSpec:
        """Return what is to be downloaded: a safetensors file whatever its address says."""
        name = PurePosixPath(unquote(urlsplit(self.url).path)).name or self.kind
        name = name if name.lower().endswith(_SUFFIX) else f"{name}{_SUFFIX}"
        return ArtifactSpec(self.url, name, sha256=self.sha256, kind=self.kind)


def parse_job_models(own: Mapping[str, Any], policy: DownloadPolicy) -> tuple[JobModel, ...]:
    """Return the models that a job names by address.

    Args:
        own: keys of the input that are for the worker.
        policy: of the worker.

    Raises:
        UserError: one is invalid (code `input-invalid`), or the worker downloads none from its
            host (code `downloads-off`).
    """
    return tuple(_parse(own, policy))


def _parse(own: Mapping[str, Any], policy: DownloadPolicy) -> Iterator[JobModel]:
    loras = own.get("loras")
    loras = [] if loras is None else loras
    if not isinstance(loras, list) or len(loras) > _MAX_LORAS:
        example = '[{"url": "https://…", "sha256": "…", "weight": 0.8}]'
        message = f"input.loras must be a list such as {example}, of at most {_MAX_LORAS}"
        raise UserError(message, code=_CODE)
    for index, row in enumerate(loras):
        field = f"input.loras[{index}]"
        url, sha256 = _parse_source(field, row, policy, ("url", "sha256", "weight"))
        weight = row.get("weight", 1.0)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not math.isfinite(weight) or abs(weight) > MAX_WEIGHT:
            limits = f"{-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
            raise UserError(f"{field}.weight must be a number from {limits}", code=_CODE)
        yield JobModel(field, "lora", url, sha256, float(weight))
    if (row := own.get("checkpoint")) is not None:
        url, sha256 = _parse_source("input.checkpoint", row, policy, ("url", "sha256"))
        yield JobModel("input.checkpoint", "checkpoint", url, sha256)


def _parse_source(
    field: str,
    row: Any,  # noqa: ANN401 - any JSON
    policy: DownloadPolicy,
    keys: tuple[str, ...],
) -> tuple[str, str]:
    """Return address and SHA-256 of a model."""
    if not isinstance(row, dict) or row.keys() - set(keys):
        raise UserError(f"{field} must be an object with {', '.join(keys)}", code=_CODE)
    url, sha256 = row.get("url"), row.get("sha256") or ""
    try:
        parts = urlsplit(url.strip() if isinstance(url, str) else "")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        has_login = parts.username is not None
    except ValueError:
        is_address = has_login = False
    if not is_address or has_login:
        raise UserError(f"{field}.url must be an http or https address, no login", code=_CODE)
    host = str(parts.hostname).rstrip(".").lower()
    if host not in policy.hosts:
        raise UserError(location=f"{field}.url: {host[:100]}", code="downloads-off")
    if sha256 and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256.strip())):
        raise UserError(f"{field}.sha256 must be 64 hexadecimal digits", code=_CODE)
    if not sha256 and not policy.allows_unverified:
        hint = "its page or `sha256sum` shows it; JOB_DOWNLOADS_UNVERIFIED=on does without"
        raise UserError(f"{field}.sha256 is missing", hint=hint, code=_CODE)
    return parts.geturl(), sha256.strip().lower()
