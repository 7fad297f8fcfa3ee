"""The one exception a user sees: what failed, where, and what to do next."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - a failure of the user's run, not of the program
    """A failure with a cure, shown as one line and exit code 1.

    Args:
        what: what failed, as a short sentence without a full stop.
        where: the file, URL, stage or image it concerns; empty when `what` says it.
        cure: what to do next, as an imperative; empty only when nothing can be done.
        code: the failure's name in `scripts.common.findings`, empty when it has none.
    """

    def __init__(self, what: str, *, where: str = "", cure: str = "", code: str = "") -> None:
        self.what, self.where, self.cure, self.code = what, where, cure, code
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        name = f" [{self.code}]" if self.code else ""
        cure = f" - {self.cure}" if self.cure else ""
        return f"{self.what}{place}{name}{cure}"
