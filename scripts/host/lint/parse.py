"""Reads the JSON each linter prints; pure, one function a tool."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.config.layers import read_layer
from scripts.host.lint.problems import LEVELS, Problem

Parse = Callable[[str, Path], list[Problem]]


def ruff(output: str, root: Path) -> list[Problem]:
    """`ruff check` and `ruff format --check`, with `--output-format json`."""
    return [
        Problem(
            path=os.path.relpath(row["filename"], root),
            line=row["location"]["row"],
            column=row["location"]["column"],
            rule=row["code"],
            message=row["message"],
            help_url=row["url"] or "",
        )
        for row in json.loads(output or "[]")
    ]


def mypy(output: str, _: Path) -> list[Problem]:
    """`mypy --output json`: one object a line, and the summary between them."""
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [
        Problem(
            path=row["file"],
            line=max(row["line"], 1),
            column=max(row["column"], 0) + 1,
            rule=row["code"] or "note",
            message=row["message"],
            level=LEVELS[row["severity"]],
        )
        for row in rows
        if row["severity"] != "note"  # explains the error before it
    ]


def hadolint(output: str, _: Path) -> list[Problem]:
    """`hadolint --format json`."""
    return [
        Problem(
            path=row["file"],
            line=row["line"],
            column=row["column"],
            rule=row["code"],
            message=row["message"].replace("\n", "; "),
            level=LEVELS[row["level"]],
            help_url=_wiki(row["code"]),
        )
        for row in json.loads(output or "[]")
    ]


def shellcheck(output: str, _: Path) -> list[Problem]:
    """`shellcheck --format json1`."""
    return [
        Problem(
            path=row["file"],
            line=row["line"],
            column=row["column"],
            rule=f"SC{row['code']}",
            message=row["message"],
            level=LEVELS[row["level"]],
            help_url=_wiki(f"SC{row['code']}"),
        )
        for row in json.loads(output or "{}").get("comments", [])
    ]


def workflows(output: str, root: Path) -> list[Problem]:
    """`check-jsonschema --output-format json`; it knows key paths, the lines are looked up."""
    answer = json.loads(output or "{}")
    broken = [_unreadable(row["filename"], root) for row in answer.get("parse_errors", [])]
    wrong = []
    for row in answer.get("errors", []):
        best = row.get("best_deep_match") or row
        line = _line(best["path"], root, row["filename"])
        message = f"{best['path'].removeprefix('$.')}: {best['message']}"
        wrong.append(Problem(row["filename"], line, 1, "workflow-schema", message))
    return broken + wrong


def actionlint(output: str, _: Path) -> list[Problem]:
    """`actionlint -format '{{json .}}'`; its rule `shellcheck` is about `run:` blocks."""
    return [
        Problem(
            path=row["filepath"],
            line=max(row["line"], 1),
            column=max(row["column"], 1),
            rule=row["kind"],
            message=row["message"].replace("\n", "; "),
        )
        for row in json.loads(output or "[]")
    ]


def zizmor(output: str, _: Path) -> list[Problem]:
    """`zizmor --format json`; rows and columns count from 0 there."""
    problems = []
    for row in json.loads(output or "[]"):
        place = next(each for each in row["locations"] if each["symbolic"]["kind"] == "Primary")
        start = place["concrete"]["location"]["start_point"]
        problems.append(
            Problem(
                path=place["symbolic"]["key"]["Local"]["verbatim_path"],
                line=start["row"] + 1,
                column=start["column"] + 1,
                rule=row["ident"],
                message=f"{row['desc']}: {place['symbolic']['annotation']}",
                level=LEVELS[row["determinations"]["severity"].lower()],
                help_url=row["url"],
            )
        )
    return problems


def _wiki(rule: str) -> str:
    project = "hadolint/hadolint" if rule.startswith("DL") else "koalaman/shellcheck"
    return f"https://github.com/{project}/wiki/{rule}"


def _line(json_path: str, root: Path, name: str) -> int:
    """The line of a key path such as `$.jobs.a.steps[0]`, or of the nearest one above it."""
    try:
        origins = read_layer(root / name, name).origins
    except UserError:
        return 1
    key = json_path.removeprefix("$").replace("[", ".").replace("]", "").strip(".")
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return int(origins.get(key, ":1").rpartition(":")[2])


def _unreadable(name: str, root: Path) -> Problem:
    try:
        read_layer(root / name, name)
    except UserError as failure:
        return at(failure, name, "workflow-syntax")
    return Problem(name, 1, 1, "workflow-syntax", "cannot be parsed")


def at(failure: UserError, path: str, rule: str) -> Problem:
    """A failure as a problem, at the line its `where` names."""
    file, colon, line = failure.location.rpartition(":")
    if colon and line.isdigit():
        return Problem(file, int(line), 1, rule, failure.message)
    return Problem(path, 1, 1, rule, failure.message)
