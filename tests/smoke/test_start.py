"""Check the container from its start to its first image, and the process that serves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.common.checks.check import Check, check, judge
from scripts.common.gpu.judge import Judgement
from tests.smoke.container_under_test import WorkerContainer


@check("container becomes ready", "not-ready")
def becomes_ready(worker: WorkerContainer) -> Judgement:
    """Read the phases of the start."""
    phases = ", ".join(f"{name} after {at:.1f} s" for name, at in worker.phases.items())
    return judge(phases, "" if "drawn" in worker.phases else "it is ready, but has not drawn")


@check("the serving process is not root", "served-by-root")
def is_not_root(worker: WorkerContainer) -> Judgement:
    """Read the owners of the WebUI's processes."""
    script = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = worker.run("sh", "-c", script).split()
    if not owners:
        return judge("", "there is no serving process")
    return judge(f"uid {', '.join(owners)}", "it is root" if "0" in owners else "")


@check("the serving process uses tcmalloc", "tcmalloc-missing")
def uses_tcmalloc(worker: WorkerContainer) -> Judgement:
    """Search the libraries that the WebUI's process has mapped."""
    script = (
        "p=$(pgrep -f [w]ebui.py | head -1);"
        " grep -om1 '[^ /]*libtcmalloc.*' /proc/$p/maps || [ $? = 1 ]"
    )
    # As the process's own user: another one may not read its maps.
    found = worker.run("sh", "-c", script, user="worker")
    return judge(found, "" if found.startswith("libtcmalloc") else "it is not mapped")


@pytest.mark.parametrize("check", [becomes_ready, is_not_root, uses_tcmalloc], ids=str)
def test_start(
    check: Check[WorkerContainer], ready: WorkerContainer, examine: Callable[..., None]
) -> None:
    examine(check, ready)
