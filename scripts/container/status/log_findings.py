"""Hand known failures from the WebUI's log to the handler, which is another process.

The WebUI answers some requests with status 200 although it could not load a model and went on
without it: only a line of its log says so. The supervisor reads that log and matches every line
with the diagnostics table; the handler asks for the matches after each job, through a Unix socket
in WORKER_DIR. A file would not do: the answer must include every line that was printed before the
question.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Final

from scripts.container.log import log

_SOCKET: Final = "log-findings.sock"  # in WORKER_DIR
_TIMEOUT: Final = 2.0  # seconds for question and answer
_MAX_TEXT: Final = 300


@dataclass(frozen=True)
class Finding:
    """A line of a process's output that shows a known failure.

    Args:
        at: monotonic time at which the line was read, the same clock in all processes.
        code: of the failure in the diagnostics table.
        text: the line from the match on, shortened.
    """

    at: float
    code: str
    text: str


def find_in_line(line: str) -> Finding | None:
    """Return the known failure that a line shows; None where it shows none."""
    from scripts.common.diagnostics.table import match

    row = match(line)
    found = row.search(line) if row else None
    if not (row and found):
        return None
    # A progress bar may stand before the message on the same line.
    return Finding(time.monotonic(), row.code, line[found.start() :].strip()[:_MAX_TEXT])


def serve_findings(worker_dir: Path, read: Callable[[], Iterable[Finding]]) -> None:
    """Answer questions in a thread until the process ends; no socket is a warning.

    Args:
        worker_dir: folder of the socket.
        read: returns the findings in all output up to now; called in other threads.
    """

    class Handler(StreamRequestHandler):
        timeout = _TIMEOUT

        def handle(self) -> None:
            since = float(self.rfile.readline())
            found = [asdict(finding) for finding in read() if finding.at >= since]
            self.wfile.write(json.dumps(found).encode())

    class Server(ThreadingUnixStreamServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Print nothing: a client that has gone away is no event."""

    try:
        folder = os.open(worker_dir, os.O_PATH | os.O_DIRECTORY)
        with suppress(FileNotFoundError):
            (worker_dir / _SOCKET).unlink()  # of an earlier start
        server = Server(_short_path(folder), Handler)
    except OSError as error:
        log("no-log-findings", level="warning", reason=str(error))
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()


def read_findings(worker_dir: Path, since: float) -> tuple[Finding, ...]:
    """Ask the supervisor for the findings in all output printed since a monotonic time.

    Raises:
        OSError: no supervisor answers.
        ValueError: the answer is incomplete.
    """
    folder = os.open(worker_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(_short_path(folder))
            connection.sendall(f"{since!r}\n".encode())
            with connection.makefile("rb") as answer:
                return tuple(Finding(**row) for row in json.loads(answer.read()))
    finally:
        os.close(folder)


def _short_path(folder: int) -> str:
    """Return a path of the socket by the folder's descriptor: it must be below 108 bytes."""
    return f"/proc/self/fd/{folder}/{_SOCKET}"
