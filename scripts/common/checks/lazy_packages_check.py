"""Check that the table of lazy packages fits an image's packages, releases and extensions."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from scripts.common.checks.check import CheckSkipped, check, judge
from scripts.common.checks.worker_under_test import WorkerUnderTest
from scripts.common.gpu.judge import Judgement

# What the launcher writes, in one line with the accelerator and the number of extensions; then a
# line for each name of the table that is not there.
_COMMAND: Final = (
    "file=${WORKER_DIR:-/tmp/a1111-worker}/lazy-imports.json;"
    ' [ -e "$file" ] || { echo off; exit; };'
    """ printf '{"accelerator": "%s", "extensions": %d, "start": %s}\\n'"""
    ' "$ACCELERATOR" "$(ls -A /opt/extensions | grep -vc extensions.json)" "$(cat "$file")";'
    " cd /opt/worker/scripts/container/webui && PYTHONPATH=. exec $WEBUI_PYTHON"
    " -m lazy_imports.lazy_check"
)


@check("the table of lazy packages fits the image", "lazy-packages-stale")
def lazy_packages_fit(worker: WorkerUnderTest) -> Judgement:
    """Compare the table with what the start imported, and load every package of it.

    Names that are missing fail a use later, so they fail this check. Rows without use only cost
    time: where the table was made, by A1111's own start on the processor and without extensions,
    they fail it, too. Elsewhere they are no fault: extensions, or xformers, may use a package at
    once, and another WebUI need not import it.
    """
    described, *missing = worker.run("sh", "-c", _COMMAND).splitlines()
    if described == "off":
        raise CheckSkipped("WEBUI_LAZY_IMPORTS is off")
    if missing:
        return judge("", f"not in their packages: {', '.join(missing)}")
    facts = json.loads(described)
    start = facts["start"]
    packages = start["packages"]
    waiting = [row for row in packages.values() if row["imported"] and not row["loaded_by"]]
    is_alike = facts["accelerator"] == "cpu" and not facts["extensions"] and start["is_complete"]
    stale = "; ".join(list_stale(packages)) if is_alike else ""
    return judge(f"{len(waiting)} of {len(packages)} packages wait for their first use", stale)


def list_stale(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the start made no use of.

    Args:
        packages: what the start made of each, as `report` in `lazy_finder.py` returns it.
    """
    for name, row in packages.items():
        if not row["imported"]:
            yield f"nobody imports {name}"
        elif row["loaded_by"]:
            yield f"{row['loaded_by']} uses {name} at once"
        yield from (f"not taken: {untaken}" for untaken in row["untaken"])
