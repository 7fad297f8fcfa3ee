"""The table of check results that doctor, preflight and smoke print."""

from __future__ import annotations

from scripts.common.checks.check import CheckResult, format_results
from scripts.common.diagnostics.table import diagnostics

GOOD = CheckResult("model", "passed", "2 tensors")
BAD = CheckResult("gpu", "failed", "the driver\nlists no GPU\x1b[31m", "gpu-not-visible")


def test_a_failed_check_is_explained_below_its_row() -> None:
    row = diagnostics()["gpu-not-visible"]
    assert format_results([GOOD, BAD]).splitlines() == [
        "ok    model  2 tensors",
        "fail  gpu    the driver lists no GPU [31m",
        f"{'':13}{row.message}",
        f"{'':13}hint: {row.hint} [gpu-not-visible]",
    ]


def test_long_text_is_wrapped_below_its_own_column() -> None:
    address = "https://example.org/" + 30 * "x"
    lines = format_results([CheckResult("mirror", "failed", f"{address}: no route")], 60)
    start = len("fail  mirror  ")
    assert lines.splitlines() == [f"fail  mirror  {address}:", f"{' ' * start}no route"]


def test_a_brief_row_is_one_line_within_the_width() -> None:
    long = CheckResult("draws", "passed", "word " * 40, seconds=1.25)
    lines = format_results([long, BAD], 60, brief=True).splitlines()
    assert [len(line) <= 60 for line in lines] == [True, True]
    assert lines[0].startswith("ok       1.2 s  draws  word word")
    assert lines[0].endswith("…")


def test_only_the_outcome_is_painted() -> None:
    text = format_results([GOOD], paint=lambda word, outcome: f"<{outcome}>{word}</>")
    assert text == "<passed>ok</>    model  2 tensors"


def test_json_fields_stay_those_that_programs_read() -> None:
    row = diagnostics()["gpu-not-visible"]
    assert BAD.to_json() == {
        "check": "gpu",
        "level": "fail",
        "evidence": BAD.evidence,
        "code": "gpu-not-visible",
        "sentence": row.message,
        "cure": row.hint,
    }
    assert GOOD.to_json()["code"] == GOOD.to_json()["cure"] == ""
