"""Read the table of known failures, `table.ini`, and recognise them in logs.

`invoke doctor`, the container's preflight, the smoke tests, the worker and the docs share it, so a
failure has the same code, message and hint wherever it shows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

# How the worker's log names a code: as a field, or at the end of an error's text.
_CODE: Final = re.compile(r"\b(?:code|finding)=([a-z0-9-]+)|\[([a-z0-9-]+)\]")
# Codes that say what failed, but not why: a log may know more.
_VAGUE: Final = ("", "not-drawn", "not-ready", "package-missing", "port-closed", "webui-died")


@dataclass(frozen=True)
class Diagnostic:
    """A known failure.

    Args:
        code: stable name, lower case with hyphens.
        message: what is wrong, as a clause without a full stop.
        hint: next step, as an imperative.
        signature: regular expression that matches logs of this failure; empty where none does.
        poisons: the process in which it happened can compute no more on the GPU.
    """

    code: str
    message: str
    hint: str
    signature: str = ""
    poisons: bool = False

    def search(self, text: str) -> re.Match[str] | None:
        """Find this failure's signature in a log."""
        return re.search(self.signature, text) if self.signature else None


@cache
def diagnostics() -> Mapping[str, Diagnostic]:
    """Return every known failure by code, in the table's order."""
    from configparser import ConfigParser  # not needed by a run without failures

    table = ConfigParser(interpolation=None)
    table.read_string(Path(__file__).with_name("table.ini").read_text(encoding="utf-8"))
    return {
        code: Diagnostic(
            code,
            message=table[code]["message"],
            hint=table[code]["hint"],
            signature=table[code].get("signatures", "").strip().replace("\n", "|"),
            poisons=table.getboolean(code, "poisons", fallback=False),
        )
        for code in table.sections()
    }


def match(text: str) -> Diagnostic | None:
    """Return the first known failure, in the table's order, whose signature is in a text."""
    return next((row for row in diagnostics().values() if row.search(text)), None)


def find_failure(log: str) -> Diagnostic | None:
    """Return the known failure that a log shows.

    A code that the worker's log names counts before signatures, and those before a vague code.
    """
    named = list(_named(log))
    specific = next((row for row in named if row.code not in _VAGUE), None)
    return specific or match(log) or next(iter(named), None)


def refine_code(code: str, log: str) -> str:
    """Return the code of a failure's cause.

    Args:
        code: of the failed check.
        log: of the worker, or the output of the command that failed.

    Returns:
        The check's code, unless it is vague and the log shows a known failure.
    """
    row = find_failure(log) if code in _VAGUE else None
    return row.code if row else code


def excerpt(code: str, log: str, context: int = 2) -> str:
    """Return the lines of a log that show a failure.

    Args:
        code: of the failure.
        log: of the worker, or the output of the command that failed.
        context: lines before and after the one that shows it.

    Returns:
        Those lines; the last ones when no line shows a vague failure; else nothing.
    """
    lines = log.splitlines()
    found = next((i for i, line in enumerate(lines) if _shows(code, line)), None)
    if found is not None:
        return "\n".join(lines[max(found - context, 0) : found + context + 1])
    return "\n".join(lines[-2 * context - 1 :]) if code in _VAGUE else ""


def _shows(code: str, line: str) -> bool:
    """Return whether a line names a failure or has its signature."""
    row = diagnostics().get(code)
    return row is not None and (row in _named(line) or row.search(line) is not None)


def _named(log: str) -> Iterator[Diagnostic]:
    """Yield the failures that the worker's log names as errors."""
    for line in log.splitlines():
        for found in _CODE.finditer(line) if "level=error" in line else ():
            if row := diagnostics().get(found[1] or found[2]):
                yield row
