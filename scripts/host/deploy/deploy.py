"""Create or update the endpoint of a variant, and show how it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import BuildInputs
from scripts.host.config.load import LoadedConfig
from scripts.host.deploy.deployments import (
    DeployableImage,
    Deployment,
    DeploymentRecord,
    find_image,
    read_record,
    record_file,
    write_record,
)
from scripts.host.deploy.endpoint_spec import (
    find_model_step,
    list_changes,
    make_spec,
    make_update,
)
from scripts.host.deploy.gpu_pools import order_pools, read_pools
from scripts.host.deploy.runpod_api import Json, RunpodApi

_PATH = "/v2/serverless"


@dataclass(frozen=True)
class Plan:
    """Changes that a deployment will make.

    Args:
        endpoint: ID of the endpoint; empty for a new one.
        spec: every field of it.
        changes: one line for each field that changes.
        image: that it will run.
        record: deployments so far.
    """

    endpoint: str
    spec: Json
    changes: tuple[str, ...]
    image: DeployableImage
    record: DeploymentRecord | None

    @property
    def is_done(self) -> bool:
        """Return whether the endpoint is as it is to be, and recorded so."""
        record = self.record
        is_recorded = record is None or (
            record.endpoint == self.endpoint
            and [each.image.reference for each in record.deployments[-1:]] == [self.image.reference]
        )
        return bool(self.endpoint) and not self.changes and is_recorded


def plan(loaded: LoadedConfig, api: RunpodApi, digest: str = "") -> Plan:
    """Find what there is and what would change; nothing is changed.

    Args:
        loaded: config of the variant.
        api: RunPod's.
        digest: of an older image to go back to; empty for the last push.

    Raises:
        UserError: no image may be deployed, a pool or card is unknown, the endpoint is gone, or
            RunPod refuses or does not answer.
    """
    config = loaded.config
    if config.build.accelerator != "cuda":
        raise UserError(
            "this variant draws on the processor",
            location=loaded.variant,
            hint="deploy a variant whose build.accelerator is cuda",
        )
    record = read_record(loaded)
    image = find_image(loaded, record, digest)
    deploy = config.deploy
    pools = order_pools(deploy.pools, deploy.excluded_gpus, read_pools(api), image.archs)
    spec = make_spec(loaded, image.reference, image.size, pools)
    endpoint = deploy.endpoint or (record.endpoint if record else "")
    endpoint = endpoint or _find_made(api, record, spec["name"])
    found = _call(loaded, api, "GET", endpoint) if endpoint else {}
    if endpoint and (found.get("type", "QUEUE") != "QUEUE" or not found.get("gpu")):
        message = f"{endpoint} is no queue endpoint with GPUs, and cannot become one"
        raise UserError(message, location="deploy.endpoint", code="runpod-invalid")
    return Plan(endpoint, spec, tuple(list_changes(found, spec)), image, record)


def apply(loaded: LoadedConfig, api: RunpodApi, planned: Plan) -> DeploymentRecord:
    """Create or update the endpoint, and record it.

    Whatever interrupts it, the next deployment goes on from what there is.

    Raises:
        UserError: the endpoint is gone, or RunPod refuses or does not answer.
    """
    spec, endpoint = planned.spec, planned.endpoint
    earlier = planned.record.deployments if planned.record else ()
    if not endpoint:
        begun = DeploymentRecord(endpoint="", name=spec["name"], deployments=earlier)
        write_record(loaded, begun)
        try:
            endpoint = str(api.call("POST", _PATH, spec).get("id") or "")
        except UserError as error:
            if error.code != "runpod-lost":  # refused, so nothing was made
                write_record(loaded, planned.record)
            raise
        if not endpoint:
            raise UserError("RunPod's answer names no endpoint", code="runpod-lost")
    elif planned.changes:
        _call(loaded, api, "PATCH", endpoint, make_update(spec))
    deployment = Deployment(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        image=planned.image,
        changes=planned.changes,
    )
    record = DeploymentRecord(
        endpoint=endpoint, name=spec["name"], deployments=(*earlier, deployment)
    )
    write_record(loaded, record)
    return record


def describe_status(loaded: LoadedConfig, api: RunpodApi) -> list[str]:
    """Return lines about the endpoint: image, changes since the last deployment, workers, roll-out.

    Raises:
        UserError: there is no endpoint, or as for `plan`.
    """
    record = read_record(loaded)
    endpoint = loaded.config.deploy.endpoint or (record.endpoint if record else "")
    if not endpoint:
        hint = f"run: invoke deploy --variant {loaded.variant}"
        raise UserError("this variant has no endpoint yet", location=loaded.variant, hint=hint)
    found = _call(loaded, api, "GET", endpoint)
    path = f"{_PATH}/{endpoint}"
    summary = api.call("GET", f"{path}/workers").get("summary", {})
    rollout = api.call("GET", f"{path}/releases").get("rollout", {})
    last = record.deployments[-1] if record and record.deployments else None
    image = str(found.get("image"))
    deployed = f"deployed {last.time}" if last else "not deployed from here"
    if last and image != last.image.reference:
        deployed = f"changed elsewhere: deployed was {last.image.reference}"
    workers = ", ".join(f"{count} {state}" for state, count in summary.items() if state != "total")
    lines = [
        f"{endpoint}  {found.get('name')}  {found.get('type', 'QUEUE')}",
        f"image    {image} ({deployed})",
        f"workers  {workers}, at most {found.get('workers', {}).get('max')}",
        f"release  on {rollout.get('workersOnLatest', 0)} of {rollout.get('workersTotal', 0)}",
    ]
    urls = found.get("requestUrls", {})
    return lines + [f"jobs     {urls[name]}" for name in ("runSync", "run") if name in urls]


def next_steps(inputs: BuildInputs, record: DeploymentRecord) -> list[str]:
    """Return what a person does after a deployment."""
    deploy = inputs.config.deploy
    steps = []
    if names := sorted({*deploy.secrets.values()}):
        # RunPod's API lists no secrets, so a missing one shows only in the worker.
        steps.append(f"RunPod needs these secrets (console, Secrets): {', '.join(names)}")
    if step := find_model_step(deploy.env.get("MODEL_PATH") or inputs.arguments["MODEL_PATH"]):
        steps.append(step)
    return [*steps, f"test it: nox -s endpoint_smoke -- --endpoint {record.endpoint}"]


def _find_made(api: RunpodApi, record: DeploymentRecord | None, name: str) -> str:
    """Return the endpoint that an interrupted deployment has made; empty if there is none.

    Raises:
        UserError: no deployment from here has begun to make one, and there is one of that name.
    """
    found = {row.get("name"): str(row.get("id")) for row in api.list_all(_PATH, "endpoints")}
    if record and record.name in found:
        return found[record.name]
    if name in found:
        message = f"there is an endpoint {name} already: {found[name]}"
        raise UserError(message, location="deploy.name", code="endpoint-exists")
    return ""


def _call(
    loaded: LoadedConfig, api: RunpodApi, method: str, endpoint: str, body: Json | None = None
) -> Json:
    """Read or change an endpoint.

    Raises:
        UserError: as `RunpodApi.call`; with a hint where the endpoint was deleted.
    """
    try:
        return api.call(method, f"{_PATH}/{endpoint}", body)
    except UserError as error:
        if error.code != "runpod-gone":
            raise
    record = record_file(loaded).relative_to(loaded.root)
    where = "deploy.endpoint" if loaded.config.deploy.endpoint else str(record)
    raise UserError(
        f"the endpoint {endpoint} does not exist any more",
        location=where,
        hint=f"to make another, remove {where}, and run it again",
        code="runpod-gone",
    )
