"""Checks of a worker's start, of the process that serves, and of its end."""

import time
from typing import Final

from scripts.common.checks.check import Check, check, judge
from scripts.common.checks.lazy_packages_check import lazy_packages_fit
from scripts.common.checks.worker_under_test import WorkerUnderTest
from scripts.common.diagnostics.table import excerpt, find_failure
from scripts.common.gpu.judge import Judgement


@check("container becomes ready", "not-ready")
def becomes_ready(worker: WorkerUnderTest) -> Judgement:
    """Read the phases of the start."""
    phases = ", ".join(f"{name} after {at:.1f} s" for name, at in worker.phases.items())
    return judge(phases, "" if "drawn" in worker.phases else "it is ready, but has not drawn")


@check("the serving process is not root", "served-by-root")
def is_not_root(worker: WorkerUnderTest) -> Judgement:
    """Read the owners of the WebUI's processes."""
    script = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = worker.run("sh", "-c", script).split()
    if not owners:
        return judge("", "there is no serving process")
    return judge(f"uid {', '.join(owners)}", "it is root" if "0" in owners else "")


@check("the serving process uses tcmalloc", "tcmalloc-missing")
def uses_tcmalloc(worker: WorkerUnderTest) -> Judgement:
    """Search the libraries that the WebUI's process has mapped."""
    script = (
        "p=$(pgrep -f [w]ebui.py | head -1);"
        " grep -om1 '[^ /]*libtcmalloc.*' /proc/$p/maps || [ $? = 1 ]"
    )
    # As the process's own user: another one may not read its maps.
    found = worker.run("sh", "-c", script, user="worker")
    return judge(found, "" if found.startswith("libtcmalloc") else "it is not mapped")


@check("no known failure in the log")
def log_is_clean(worker: WorkerUnderTest) -> Judgement:
    """Search the log for known failures."""
    log = worker.log
    if row := find_failure(log):
        return judge("", f"the log contains: {excerpt(row.code, log, context=0)}", row.code)
    return judge(f"{len(log.splitlines())} lines")


def stops_in_time(limit: float) -> Check[WorkerUnderTest]:
    """Make the check that a worker stops within a limit, in seconds."""

    def stop(worker: WorkerUnderTest) -> Judgement:
        began = time.monotonic()
        worker.stop(limit + 2)
        seconds = time.monotonic() - began
        return judge(f"{seconds:.1f} s", "" if seconds < limit else f"allowed are {limit:g} s")

    return Check("stops within its deadline", "stop-late", stop)


START_CHECKS: Final = (becomes_ready, is_not_root, uses_tcmalloc, lazy_packages_fit)
