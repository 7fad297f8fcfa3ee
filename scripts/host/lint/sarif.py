"""Writes problems as SARIF 2.1.0, which code scanning reads.

See https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html: one run a tool, paths
relative to the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from scripts.host.lint.problems import Problem, Verdict

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(verdicts: Sequence[Verdict]) -> str:
    """The log of one lint run, as JSON."""
    runs = [_run(verdict) for verdict in verdicts]
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}, indent=2) + "\n"


def _run(verdict: Verdict) -> dict[str, Any]:
    rules = {problem.rule: problem.help_url for problem in verdict.problems}
    ids = sorted(rules)
    driver = {"name": verdict.tool, "rules": [_rule(name, rules[name]) for name in ids]}
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"invoke-lint/{verdict.tool}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, ids.index(problem.rule)) for problem in verdict.problems],
    }


def _rule(name: str, help_url: str) -> dict[str, str]:
    return {"id": name, "helpUri": help_url} if help_url else {"id": name}


def _result(problem: Problem, rule_index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": quote(problem.path), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": problem.line, "startColumn": problem.column},
    }
    return {
        "ruleId": problem.rule,
        "ruleIndex": rule_index,
        "level": problem.level,
        "message": {"text": problem.message},
        "locations": [{"physicalLocation": place}],
    }
