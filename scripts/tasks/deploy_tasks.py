"""Tasks of the serverless endpoint at RunPod. The key is in RUNPOD_API_KEY."""

from typing import TYPE_CHECKING, Annotated

from scripts.host.console import note, say
from scripts.tasks import task

if TYPE_CHECKING:
    from scripts.host.build.inputs import BuildInputs
    from scripts.host.config.load import LoadedConfig


@task()
def up(
    inputs: "BuildInputs",
    digest: Annotated[str, "image that was deployed or pushed before, as sha256:…"] = "",
    dry_run: Annotated[bool, "show what would change, and change nothing"] = False,
) -> None:
    """Create or update the endpoint of a variant at RunPod.

    It runs the image of the last `invoke push`, or an older one by its digest.
    """
    from scripts.host.deploy import deploy
    from scripts.host.deploy.runpod_api import RunpodApi

    api = RunpodApi.from_environment(str(inputs.ca_bundle or ""))
    planned = deploy.plan(inputs, api, digest)
    note(f"endpoint {planned.endpoint or '(new)'}")
    for change in planned.changes:
        say(change)
    if dry_run or planned.is_done:
        note("nothing was changed" if dry_run else "nothing to change")
        return
    record = deploy.apply(inputs, api, planned)
    note(f"{'updated' if planned.endpoint else 'created'} {record.endpoint}")
    for step in deploy.next_steps(inputs, record):
        note(step)


@task()
def status(loaded: "LoadedConfig") -> None:
    """Show the endpoint: its image, workers and roll-out."""
    from scripts.host.deploy.deploy import describe_status
    from scripts.host.deploy.runpod_api import RunpodApi

    for line in describe_status(loaded, RunpodApi.from_environment(str(loaded.ca_bundle or ""))):
        say(line)
