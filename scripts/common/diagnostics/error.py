"""The one exception a user sees: what failed, where, and what to do next."""

from __future__ import annotations


class UserError(Exception):
    """A failure with a hint, shown as one line and exit code 1.

    Args:
        message: what failed, as a short sentence without a full stop.
        location: the file, URL, stage or image it concerns; empty when `message` says it.
        hint: what to do next, as an imperative; empty only when nothing can be done.
        code: the failure's name in `scripts.common.diagnostics.table`, empty when it has none.
    """

    def __init__(self, message: str, *, location: str = "", hint: str = "", code: str = "") -> None:
        self.message, self.location, self.hint, self.code = message, location, hint, code
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f" ({self.location})" if self.location else ""
        name = f" [{self.code}]" if self.code else ""
        hint = f" - {self.hint}" if self.hint else ""
        return f"{self.message}{place}{name}{hint}"
