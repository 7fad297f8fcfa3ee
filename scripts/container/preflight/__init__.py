"""The checks that a container makes of itself: `python -m scripts.container preflight`.

As a command it prints a table, or JSON with `--json`; with `--log` it writes a log line for each
finding, as the supervisor wants it. Exit code 1 when something makes serving pointless.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from scripts.container.log import log
from scripts.container.preflight.checks import Level, Verdict, judge
from scripts.container.settings import Settings


def main(settings: Settings, words: Sequence[str]) -> int:
    """Gather, judge and tell.

    Args:
        settings: the worker's.
        words: what follows the command.
    """
    parser = argparse.ArgumentParser(prog="preflight", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--log", action="store_true", help="a log line for each finding")
    options = parser.parse_args(words)
    from scripts.container.preflight.probes import gather

    began = time.monotonic()
    facts = gather(settings)
    verdicts = judge(facts)
    passed = all(verdict.level != Level.FAIL for verdict in verdicts)
    seconds = time.monotonic() - began
    if options.json:
        rows = [_row(verdict) for verdict in verdicts]
        report = {"passed": passed, "seconds": seconds, "verdicts": rows, "facts": asdict(facts)}
        print(json.dumps(report, indent=2))
    elif options.log:
        _write_log(verdicts, seconds)
    else:
        print(table(verdicts))
    return 0 if passed else 1


def table(verdicts: Sequence[Verdict]) -> str:
    """Verdicts for a person: one line each, and the hint below what needs one."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.level.value:4}  {verdict.check:12}  {verdict.evidence}")
        if verdict.code:
            lines.append(f"{'':20}[{verdict.code}] {verdict.sentence} - {verdict.hint}")
    return "\n".join(lines)


def _row(verdict: Verdict) -> dict[str, str]:
    return {**asdict(verdict), "sentence": verdict.sentence, "cure": verdict.hint}


def _write_log(verdicts: Sequence[Verdict], seconds: float) -> None:
    for verdict in verdicts:
        if verdict.code:
            log(
                "preflight",
                level="error" if verdict.level == Level.FAIL else "warning",
                code=verdict.code,
                found=verdict.evidence,
                hint=verdict.hint,
            )
    findings = sum(1 for verdict in verdicts if verdict.code)
    log("preflight-done", checks=len(verdicts), findings=findings, seconds=seconds)
