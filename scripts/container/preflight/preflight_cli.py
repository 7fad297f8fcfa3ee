"""Check this container: `python -m scripts.container preflight [--json | --log]`.

Prints a table, or JSON; with `--log` a log line for each result that is not passed, as the
supervisor wants it. Exit code 1 when a check failed, so that serving is pointless.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from scripts.common.checks.check_result import CheckResult, format_results
from scripts.container.log import log
from scripts.container.preflight.preflight_checks import run_checks
from scripts.container.preflight.preflight_facts import gather_facts
from scripts.container.settings import Settings


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Run every check and print the results.

    Args:
        settings: of the worker.
        arguments: of the command.
    """
    parser = argparse.ArgumentParser(prog="preflight", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--log", action="store_true", help="write a log line for each finding")
    options = parser.parse_args(arguments)

    started = time.monotonic()
    facts = gather_facts(settings)
    results = run_checks(facts)
    passed = all(result.outcome != "failed" for result in results)
    seconds = time.monotonic() - started
    if options.json:
        verdicts = [result.to_json() for result in results]
        report = {"passed": passed, "seconds": seconds, "verdicts": verdicts}
        print(json.dumps({**report, "facts": facts.to_json()}, indent=2))
    elif options.log:
        _write_log(results, seconds)
    else:
        print(format_results(results))
    return 0 if passed else 1


def _write_log(results: Sequence[CheckResult], seconds: float) -> None:
    findings = [result for result in results if result.code]
    for result in findings:
        log(
            "preflight",
            level="error" if result.outcome == "failed" else "warning",
            code=result.code,
            found=result.evidence,
            hint=result.hint,
        )
    log("preflight-done", checks=len(results), findings=len(findings), seconds=seconds)
