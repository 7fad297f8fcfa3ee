"""Recognise in the WebUI's output which extension failed, and whether it took the WebUI down.

What upstream does with failures, in v1.9.3 and v1.10.1: an error of a script's import, of
`preload.py` or of a callback at start is reported between `*** ` and `---`, and the start goes on
(`report` in `modules/errors.py`). An error of `ui()` or `show()` is not caught
(`init_default_script_args` in `modules/api/api.py`), so the API does not start, and neither is a
SystemExit.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

_REPORTED: Final = re.compile(
    r"\*\*\* (Error loading script: \S+|Error running preload\(\) for .+"
    r"|Error executing callback (?:app_started_callback|before_ui) for .+"
    r"|Error # failed to initialize Script .+)"
)
_TRACEBACK: Final = "Traceback (most recent call last):"
_FATAL: Final = re.compile(r"Fatal Python error: (.+)")
_CRASHED: Final = re.compile(r"Current thread 0x\w+ .*\(most recent call first\):")
_LONGEST: Final = 300  # characters of a reason
_AFTERWARDS: Final = 20  # lines that may follow the traceback that ended the process


@dataclass(frozen=True)
class ExtensionFault:
    """A failure of an extension: its name, and the last line of the traceback."""

    extension: str
    reason: str


class ExtensionFaults:
    """Reads the output of one process of the WebUI, line by line.

    Args:
        folder: of the extensions.
        names: of those that may fail.
        on_fault: called in the reading thread for a failure that the WebUI goes on after.
    """

    def __init__(
        self, folder: Path, names: Collection[str], on_fault: Callable[[ExtensionFault], None]
    ) -> None:
        self._names, self._on_fault = names, on_fault
        folders = "|".join(re.escape(str(each)) for each in {folder, folder.resolve()})
        self._frame = re.compile(rf'File "(?:{folders})/([^/"]+)/')
        self._read: Callable[[str], None] = self._read_other
        self._headline = self._extension = self._last = ""
        self._fatal: ExtensionFault | None = None
        self._lines_since_fatal = 0

    def read_line(self, line: str) -> None:
        """Take the next line."""
        self._lines_since_fatal += 1
        if match := _REPORTED.match(line):
            self._start(self._read_reported, headline=match[1])
        elif line == _TRACEBACK:
            self._start(self._read_traceback)
        elif match := _FATAL.match(line):
            self._start(self._read_other, headline=match[1])
        elif _CRASHED.match(line):
            self._start(self._read_crash, headline=self._headline)
        else:
            self._read(line)

    def find_culprit(self, exit_code: int) -> ExtensionFault | None:
        """Return the failure that ended the process; None where its output names no extension.

        Args:
            exit_code: of the process, negative for a signal.
        """
        is_last = self._lines_since_fatal <= _AFTERWARDS
        return self._fatal if is_last and exit_code not in (0, -SIGKILL, -SIGTERM) else None

    def _start(self, read: Callable[[str], None], headline: str = "") -> None:
        self._read, self._headline, self._extension, self._last = read, headline, "", ""

    def _read_other(self, line: str) -> None:
        """Ignore a line that belongs to no failure."""

    def _read_reported(self, line: str) -> None:
        """Read an error that upstream has caught: an indented traceback, then dashes."""
        if frame := self._frame.search(line):
            self._extension = frame[1]
        if line.startswith(" "):
            self._last = line.strip()
            return
        if self._extension in self._names:
            reason = f"{self._headline}: {self._last}" if self._last else self._headline
            self._on_fault(ExtensionFault(self._extension, reason[:_LONGEST]))
        self._start(self._read_other)

    def _read_traceback(self, line: str) -> None:
        """Read an error that nothing has caught: the innermost call comes last."""
        if frame := self._frame.search(line):
            self._extension = frame[1]
        if not line.startswith(" "):
            self._keep(line)

    def _read_crash(self, line: str) -> None:
        """Read what Python's fault handler prints: the innermost call comes first."""
        if frame := self._frame.search(line):
            self._extension = frame[1]
            self._keep(self._headline or "it crashed")

    def _keep(self, reason: str) -> None:
        if self._extension in self._names:
            self._fatal = ExtensionFault(self._extension, reason.strip()[:_LONGEST])
            self._lines_since_fatal = 0
        self._start(self._read_other)
