"""Define checks as named functions, run them, and print their results.

@check("the port is open", "port-closed")
def port_is_open(subject: Subject) -> Judgement:
    return judge(f"port {subject.port}", "" if subject.answers() else "nothing answers")

`invoke doctor` and the container's preflight share the results and their table.
"""

import re
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, TypeVar

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import Diagnostic, diagnostics
from scripts.common.gpu.judge import Judgement

T = TypeVar("T")

Outcome = Literal["passed", "warned", "failed", "skipped"]
LEVELS: Final = {"passed": "ok", "warned": "warn", "failed": "fail", "skipped": "skip"}
"""Outcomes as printed, and as the `level` of a JSON report."""
_INDENT: Final = 6  # columns, below a row whose name leaves too little room


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Args:
        name: the check's name, shown and stored in reports.
        outcome: `failed` makes a build, a start or a test pointless; `warned` may do so later.
        evidence: the facts that the outcome rests on, or why the check was skipped.
        code: entry of the diagnostics table that explains it; empty when all is well.
        seconds: duration, where it is of interest.
        group: of a smoke check: image, start, gpu, serving, models, extensions, end or endpoint.
        excerpt: lines of a log, or the output of a command that failed, that show the failure.
    """

    name: str
    outcome: Outcome
    evidence: str = ""
    code: str = ""
    seconds: float | None = None
    group: str = ""
    excerpt: str = ""

    @property
    def level(self) -> str:
        """Return the outcome as printed: ok, warn, fail or skip."""
        return LEVELS[self.outcome]

    @property
    def diagnostic(self) -> Diagnostic | None:
        """Return the entry of the diagnostics table that explains the result, if any."""
        return diagnostics().get(self.code)

    @property
    def message(self) -> str:
        """Return what the code means; empty without one."""
        return self.diagnostic.message if self.diagnostic else ""

    @property
    def hint(self) -> str:
        """Return what to do next; empty when nothing has to be done."""
        return self.diagnostic.hint if self.diagnostic else ""

    def to_json(self) -> dict[str, str]:
        """Return the fields of a JSON report."""
        return {
            "check": self.name,
            "level": self.level,
            "evidence": self.evidence,
            "code": self.code,
            "sentence": self.message,
            "cure": self.hint,
        }


class CheckSkipped(Exception):  # noqa: N818 - not an error
    """A check does not apply, or what it needs has failed before; the text says why."""


class CommandError(UserError):
    """A command that a check ran has failed; the last line of its output is the message.

    Args:
        output: all that the command printed.
        code: see UserError.
    """

    def __init__(self, output: str, code: str = "") -> None:
        self.output = output
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        super().__init__(last[-300:], code=code)


@dataclass(frozen=True)
class Check(Generic[T]):
    """A named check of a subject of type T.

    Args:
        name: as reports show it.
        code: of its failure, unless the function knows better.
        function: returns a judgement; may raise UserError to fail, and CheckSkipped.
    """

    name: str
    code: str
    function: Callable[[T], Judgement]

    def __str__(self) -> str:
        """Return the name as one word of letters, digits and underscores."""
        return re.sub(r"\W+", "_", self.name)

    def run(self, subject: T) -> CheckResult:
        """Run the check. Whatever it raises becomes its result."""
        began = time.monotonic()
        try:
            outcome, evidence, code = self.function(subject)
            code = "" if outcome == "passed" else code or self.code
            result = CheckResult(self.name, outcome, evidence, code)
        except Exception as error:  # no surprise in one check may hide the results of the others
            result = self.result_of_error(error)
        return replace(result, seconds=time.monotonic() - began)

    def result_of_error(self, error: BaseException) -> CheckResult:
        """Return the result of a check that raised an error."""
        if isinstance(error, CheckSkipped):
            return CheckResult(self.name, "skipped", str(error))
        if isinstance(error, UserError):
            output = error.output if isinstance(error, CommandError) else ""
            code = error.code or self.code
            return CheckResult(self.name, "failed", error.message, code, excerpt=output)
        text = str(error).strip().splitlines() or [""]
        return CheckResult(self.name, "failed", f"{type(error).__name__}: {text[0]}", self.code)


def check(name: str, code: str = "") -> Callable[[Callable[[T], Judgement]], Check[T]]:
    """Make a check of a function."""
    return lambda function: Check(name, code, function)


def judge(evidence: str, problem: str = "", code: str = "") -> Judgement:
    """Judge what was seen: failed when there is a problem.

    Args:
        evidence: what was seen.
        problem: what is wrong with it; empty when nothing is.
        code: of the failure, where it is not the check's own.
    """
    if not problem:
        return Judgement("passed", evidence)
    return Judgement("failed", "; ".join(filter(None, (evidence, problem))), code)


class Prerequisite(Generic[T]):
    """A value that several checks need, created when the first one asks for it.

    Args:
        create: returns the value; raises UserError when it cannot be had.
    """

    def __init__(self, create: Callable[[], T]) -> None:
        self._create = create
        self._values: list[T] = []
        self._failure: UserError | None = None

    def get(self) -> T:
        """Return the value.

        Raises:
            UserError: it could not be created, the first time.
            CheckSkipped: it could not, any other time, so that one fault is one failure.
        """
        if self._failure:
            raise CheckSkipped(self._failure.message)
        if not self._values:
            try:
                self._values.append(self._create())
            except UserError as error:
                self._failure = error
                raise
        return self._values[0]


def format_results(
    results: Sequence[CheckResult],
    width: int = 0,
    *,
    brief: bool = False,
    paint: Callable[[str, Outcome], str] = lambda word, _: word,
) -> str:
    """Format a table: one row a check, with outcome, seconds where known, name and evidence.

    Args:
        results: in the order to show them.
        width: columns of the terminal, 0 for no limit.
        brief: cut long evidence instead of wrapping it, and leave out messages and hints.
        paint: colours the word of an outcome.
    """
    name_width = max((len(result.name) for result in results), default=0)
    timed = any(result.seconds is not None for result in results)
    lines: list[str] = []
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:.1f} s"
        start = (
            f"{result.level:<4}  {f'{seconds:>8}  ' if timed else ''}{result.name:<{name_width}}  "
        )
        if brief:
            rows = [shorten(f"{start}{printable(result.evidence)}".rstrip(), width)]
        else:
            indent = " " * (len(start) if not width or len(start) <= width // 2 else _INDENT)
            rows = [_wrap(result.evidence, start, indent, width) or start.rstrip()]
            if result.code:
                hint = f"hint: {result.hint} [{result.code}]"
                rows += [_wrap(text, indent, indent, width) for text in (result.message, hint)]
        rows[0] = paint(result.level, result.outcome) + rows[0][len(result.level) :]
        lines += rows
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return text on one line, without characters that would move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, width: int) -> str:
    """Cut text to a number of columns; 0 is no limit."""
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def _wrap(text: str, start: str, indent: str, width: int) -> str:
    """Begin a line with `start` and continue it after `indent`; long words stay whole."""
    return textwrap.fill(
        printable(text),
        width=width or sys.maxsize,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
