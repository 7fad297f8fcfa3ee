"""Write the worker's log to standard error: one line per event, `key=value`, secrets replaced.

The WebUI's own output passes through beside it, unchanged.
"""

import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Final

from scripts.common.secrets import make_redactor

_PLAIN: Final = re.compile(r"[^\s\"=]+")


class LogfmtFormatter(logging.Formatter):
    """Format a record as `time=… level=… event=… key=value`; empty fields are left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; values with spaces, quotes or line breaks are quoted as in JSON."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{clock}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.msg,
            **getattr(record, "fields", {}),
        }
        return " ".join(f"{key}={_quote(value)}" for key, value in fields.items() if value != "")


class SecretFilter(logging.Filter):
    """Replace secrets in the fields of every record.

    Args:
        environ: environment whose variables hold the secrets.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._redact = make_redactor(environ)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without secrets."""
        fields: dict[str, object] = getattr(record, "fields", {})
        record.fields = {
            key: value if isinstance(value, float) else self._redact(str(value))
            for key, value in fields.items()
        }
        return True


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


_LOGGER: Final = logging.getLogger("a1111-worker")
_HANDLER: Final = _StderrHandler()
_HANDLER.setFormatter(LogfmtFormatter())
_HANDLER.addFilter(SecretFilter(os.environ))
_LOGGER.addHandler(_HANDLER)
_LOGGER.setLevel(logging.INFO)
_LOGGER.propagate = False


def set_level(level: str) -> None:
    """Leave out lines below `level`: debug, info, warning or error."""
    _LOGGER.setLevel(level.upper())


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one line.

    Args:
        event: what happened, lower case with hyphens.
        level: debug, info, warning or error.
        **fields: details; seconds are floats, empty strings are left out.
    """
    _LOGGER.log(getattr(logging, level.upper()), event, extra={"fields": fields})


def log_crash(place: str, error: BaseException) -> None:
    """Write one line about an error that nothing caught, with its traceback.

    Args:
        place: name of the thread or process that it ended.
        error: a bug, or what nobody expected.
    """
    lines = "".join(traceback.format_exception(error))
    log("crashed", level="error", where=place, reason=repr(error), traceback=lines.strip())


def log_crashed_threads() -> None:
    """Log what ends a thread; Python would print it, with the secrets that it may quote."""

    def log_it(crash: threading.ExceptHookArgs) -> None:
        if crash.exc_value:
            log_crash(crash.thread.name if crash.thread else "thread", crash.exc_value)

    threading.excepthook = log_it


def _quote(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
