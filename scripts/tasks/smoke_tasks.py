"""Tasks of smoke reports that were made elsewhere."""

from typing import TYPE_CHECKING, Annotated

from scripts.host.console import say
from scripts.tasks import task

if TYPE_CHECKING:
    from scripts.host.config.load import LoadedConfig


@task()
def fetch(
    loaded: "LoadedConfig",
    url: Annotated[str, "address of a pod that serves its report"] = "",
    file: Annotated[str, "what `smoke --json` has printed"] = "",
) -> None:
    """Take a report that a container made of itself.

    It is self-declared: nothing proves that the container printed it.
    """
    from scripts.common.checks.smoke_report import SmokeReport
    from scripts.host.registry.declared_report import fetch_report
    from scripts.host.reports.smoke_rendering import format_summary

    path = fetch_report(loaded, url=url, file=file)
    say(format_summary(SmokeReport.model_validate_json(path.read_bytes())))
    say(f"report: {path.relative_to(loaded.root)}")
