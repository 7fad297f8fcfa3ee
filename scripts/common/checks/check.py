"""Define checks as named functions, and run them.

@check("the port is open", "port-closed")
def port_is_open(subject: Subject) -> Judgement:
    return judge(f"port {subject.port}", "" if subject.answers() else "nothing answers")
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from scripts.common.checks.check_result import CheckResult
from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.judge import Judgement

T = TypeVar("T")


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
            return CheckResult(self.name, "failed", error.message, code, output=output)
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
