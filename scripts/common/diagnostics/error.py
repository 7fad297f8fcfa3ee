"""The exception that users see: what failed, where, and the next step."""


class UserError(Exception):
    """A failure that is shown without a traceback and ends a command with exit code 1.

    Args:
        message: what failed, as a clause without a full stop; by default the table's for `code`.
        location: file, URL, stage or image; empty where `message` names it.
        hint: next step, as an imperative; by default the table's for `code`.
        code: of a failure in `scripts.common.diagnostics.table`; empty when it is not listed.
    """

    def __init__(
        self, message: str = "", *, location: str = "", hint: str = "", code: str = ""
    ) -> None:
        if code and not (message and hint):
            from scripts.common.diagnostics.table import diagnostics

            if row := diagnostics().get(code):
                message, hint = message or row.message, hint or row.hint
        self.message, self.location, self.hint, self.code = message, location, hint, code
        super().__init__(str(self))

    def __str__(self) -> str:
        location = f": {self.location}" if self.location else ""
        hint = f" - {self.hint}" if self.hint else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{self.message}{location}{hint}{code}"
