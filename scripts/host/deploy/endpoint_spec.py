"""Make the request that creates or updates an endpoint, and compare it with what is there. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.host.config.load import LoadedConfig
from scripts.host.deploy.gpu_pools import Pool
from scripts.host.deploy.runpod_api import Json

_CUDA: Final = re.compile(r"\bcuda(\d+\.\d+)")
_GIGABYTE: Final = 10**9
# RunPod's SDK ends a worker with less than 10 % free, and jobs and logs write, too.
_DISK_FACTOR, _DISK_MORE = 1.25, 5

_SECRET: Final = re.compile(r"^env\..*(AUTH|KEY|PASS|SECRET|TOKEN)", re.IGNORECASE)


def make_spec(loaded: LoadedConfig, image: str, size: int, pools: Sequence[Pool]) -> Json:
    """Return the body that creates an endpoint.

    Every field is sent, since defaults differ between RunPod's console and its interfaces, and some
    are not shown again when they are left out.

    Args:
        loaded: config of the variant.
        image: `repository@digest`.
        size: bytes of the unpacked image.
        pools: in the order to send.

    Raises:
        UserError: the lowest CUDA version is not known.
    """
    deploy = loaded.config.deploy
    # RunPod fills these in: https://docs.runpod.io/pods/templates/secrets
    secrets = {
        variable: f"{{{{ RUNPOD_SECRET_{secret} }}}}" for variable, secret in deploy.secrets.items()
    }
    return {
        "name": deploy.name or f"a1111-{loaded.variant}",
        "type": "QUEUE",
        "image": image,
        "args": "",
        "disk": deploy.disk or math.ceil(size / _GIGABYTE * _DISK_FACTOR) + _DISK_MORE,
        "ports": [],
        "env": dict(sorted({**deploy.env, **secrets}.items())),
        "registry": deploy.registry,
        "gpu": {
            "pools": [pool.id for pool in pools],
            "excludedTypes": list(deploy.excluded_gpus),
            "count": 1,
            "minCudaVersion": deploy.min_cuda or _read_cuda(loaded.config.base.runtime),
            # A list would be exact: it shuts out drivers that are newer than it.
            "allowedCudaVersions": [],
        },
        "workers": {
            "min": deploy.workers.min,
            "max": deploy.workers.max,
            "idleTimeout": deploy.workers.idle_timeout,
        },
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": deploy.queue_delay},
        "dataCenterIds": list(deploy.data_centers),
        "networkVolumes": list(deploy.volumes),
        "timeout": deploy.timeout * 1000,
        "flashboot": deploy.flashboot,
    }


def _read_cuda(base: str) -> str:
    """Return the CUDA version in the name of a base image."""
    if found := _CUDA.search(base):
        return found[1]
    raise UserError(
        f"the name of {base} does not say for which CUDA it is",
        location="base.runtime",
        hint="set deploy.min_cuda",
    )


def make_update(spec: Mapping[str, Any]) -> Json:
    """Return the body that updates an endpoint: everything but its type, which is fixed.

    A sent `env` replaces the whole map, and `pools` clears exclusions that are not sent with it.
    """
    return {name: value for name, value in spec.items() if name != "type"}


def list_changes(found: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Return one line for each field that an update changes: `gpu.count: 2 → 1`.

    Args:
        found: the endpoint as RunPod shows it; empty for a new one.
        spec: as `make_spec` returns it.
    """
    before, after = dict(_flatten(found)), dict(_flatten(spec))
    # What RunPod shows and we do not set, such as the date of creation, is no difference.
    names = [name for name in before if name.startswith("env.") or name in after]
    changes = []
    for name in dict.fromkeys((*after, *names)):
        old, new = before.get(name), after.get(name)
        if not _is_same(old, new):
            values = (_show(name, old), _show(name, new)) if found else (_show(name, new),)
            changes.append(f"{name}: {' → '.join(values)}")
    return changes


def _is_same(old: object, new: object) -> bool:
    """Compare two values; an empty list or text that RunPod leaves out is the same as none."""
    left, right = (None if value in ([], "") else value for value in (old, new))
    return left == right


def _flatten(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _show(name: str, value: object) -> str:
    """Return a value as text; what somebody has typed into RunPod's console may be a secret."""
    if value is None:
        return "none"
    if _SECRET.search(name) and not str(value).startswith("{{"):
        return "***"
    return json.dumps(value, ensure_ascii=False)


def find_model_step(model_path: str) -> str:
    """Return what a person has to do in the console for `MODEL_PATH=hub:…`; empty for a path.

    RunPod's REST API has no field for cached models.
    """
    try:
        found = HubReference.parse(model_path)
    except ValueError:  # the worker names a mistake
        return ""
    address = f"https://huggingface.co/{found.repo}"
    if found.revision:
        address += f":{found.revision}"
    return (
        "MODEL_PATH names a cached model, which only RunPod's console can set: Serverless, the"
        f" endpoint, Manage, Edit Endpoint, Model: {address}"
    )
