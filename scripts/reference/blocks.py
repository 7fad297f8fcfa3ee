"""Write the generated blocks of the docs.

A block lies between `<!-- NAME -->` and `<!-- /NAME -->` in README.md or a page below `docs/`. A
test compares every block with the code, and with the results of the benchmarks.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.common.checks.smoke_report import SmokeReport
from scripts.common.units import size
from scripts.host.config.load import ROOT
from scripts.host.deploy.deployments import DeploymentRecord
from scripts.host.inspect.structure import Inspection
from scripts.host.registry.push import PushRecord
from scripts.host.reports.build_report import BuildReport
from scripts.reference import reference_tables as tables
from scripts.reference.feature_tables import extension_habits, feature_list, weight_list

RESULTS: Final = ROOT / "benchmarks" / "results"
_COMPARISON: Final = (
    ("rebuild after a change of one Python package", "build", "pin", "ours", "baseline"),
    ("pushed after it", "build", "push", "ours, pin change", "baseline, pin change"),
    ("size over base image and model", "build", "bytes", "ours", "baseline"),
    (
        "container start to the first API answer",
        *("runtime", "API answers, warm page cache", "ours", "baseline"),
    ),
    ("clean build, with a model of 2.1 GB", "build", "clean", "ours", "baseline"),
)
_BLOCK: Final = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def results(name: str) -> str:
    """Return a benchmark's figures and goals; where a goal was missed, with the reason."""
    facts = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    reasons = yaml.safe_load((RESULTS / "missed-goals.yaml").read_text(encoding="utf-8"))
    rows = [
        (
            row["what"],
            _number(row["value"]),
            f"{'≤' if row['is_most'] else '≥'} {_number(row['limit'])}",
            "reached" if row["holds"] else reasons[row["what"]],
        )
        for row in facts["ratios"]
    ]
    machine = f"`nox -s bench -- {name}` on {_describe_machine(facts['machine'])}:"
    return f"{machine}\n\n{tables.table(('figure', 'measured', 'goal', 'result'), rows)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def comparison() -> str:
    """Return the figures of README.md beside the baseline's: medians of all rounds."""
    rows = []
    for what, name, quantity, ours, baseline in _COMPARISON:
        facts = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        found = {(row["quantity"], row["candidate"]): row for row in facts["times"]}
        pair = (found[quantity, ours], found[quantity, baseline])
        rounds = min(len(row["values"]) for row in pair)
        rows.append((what, *map(_measured, pair), str(rounds)))
    return tables.table(("", "this project", "baseline", "rounds"), rows)


def _measured(row: dict[str, Any]) -> str:
    return size(int(row["median"])) if row["unit"] == "bytes" else f"{row['median']:.3g} s"


def _describe_machine(facts: dict[str, Any]) -> str:
    """Describe the machine of a benchmark in one line."""
    engine = f", Docker {facts['engine']}" if facts["engine"] else ""
    memory = f"{facts['memory'] / 2**30:.0f} GiB"
    system = f"Linux {facts['kernel'].partition('-')[0]}, Python {facts['python']}"
    return f"{facts['cores']} cores of {facts['cpu']}, {memory}, {system}{engine}"


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "comparison": comparison,
    "config-keys": tables.config_keys,
    "features": feature_list,
    "weights": weight_list,
    "extension-habits": extension_habits,
    "tasks": tables.task_list,
    "sessions": tables.sessions,
    "smoke-options": tables.smoke_options,
    "check-fields": tables.check_fields,
    "matrix-fields": tables.matrix_fields,
    "build-report": partial(tables.record_fields, BuildReport),
    "smoke-report": partial(tables.record_fields, SmokeReport),
    "push-record": partial(tables.record_fields, PushRecord),
    "deployment-record": partial(tables.record_fields, DeploymentRecord),
    "inspection": partial(tables.record_fields, Inspection),
    "worker-variables": tables.worker_variables,
    "builtin-flags": tables.builtin_flags,
    "diagnostic-codes": tables.diagnostic_codes,
    "job-keys": tables.job_keys,
    "route-names": tables.route_names,
    "denied-routes": tables.denied_routes,
    "misnamed-fields": tables.misnamed_fields,
    **{f"results-{path.stem}": partial(results, path.stem) for path in RESULTS.glob("*.json")},
}


def pages() -> dict[Path, str]:
    """Return README.md and every page below `docs/` with its blocks as the code generates them.

    Raises:
        KeyError: a page has a block that is not in BLOCKS.
    """
    return {
        path: _BLOCK.sub(
            lambda block: f"{block[1]}{BLOCKS[block[2]]()}\n{block[3]}",
            path.read_text(encoding="utf-8"),
        )
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    }


def write() -> list[Path]:
    """Write the pages whose blocks are stale; return them."""
    stale = {p: text for p, text in pages().items() if p.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return list(stale)
