"""Run a program and capture its output."""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from scripts.common.active_time import TICK, active_time
from scripts.common.diagnostics.error import UserError

_running: set[subprocess.Popen[str]] = set()
_starting = threading.RLock()  # a signal may interrupt the thread that holds it
_is_stopped = threading.Event()
_LAST_SECONDS: Final = 2.0  # for a program to end in


def run_program(
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    location: str = "",
    missing_hint: str = "",
    timeout_hint: str = "",
    code: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. A status other than 0 is returned, not raised.

    Args:
        argv: program, found on PATH, and its arguments.
        timeout: seconds of active time after which it is killed.
        cwd: folder to run it in.
        env: variables to set besides the environment's own.
        input: text for its standard input.
        location: what errors name, for example the URL it was given.
        missing_hint: next step when the program is not installed.
        timeout_hint: next step when it did not finish in time.
        code: of both errors, in the table of diagnostics.

    Raises:
        UserError: the program is not installed, or did not finish in time.
    """
    try:
        with _starting:
            if _is_stopped.is_set():
                raise UserError(f"interrupted before {argv[0]} began")
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                stdin=None if input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            _running.add(process)
        with process:
            return _finish(process, input, timeout)
    except FileNotFoundError:
        hint = missing_hint or f"install {argv[0]}"
        raise UserError(f"{argv[0]} is not installed", hint=hint, code=code) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"`{' '.join(argv[:2])}` did not finish within {timeout:g} s",
            location=location,
            hint=timeout_hint,
            code=code,
        ) from None


def _finish(
    process: "subprocess.Popen[str]", input: str | None, timeout: float | None
) -> subprocess.CompletedProcess[str]:
    """Return what a program printed until its end; kill it where it does not come in time.

    Raises:
        subprocess.TimeoutExpired: it did not.
    """
    deadline = None if timeout is None else active_time() + timeout
    try:
        while True:
            try:
                output, errors = process.communicate(input, None if deadline is None else TICK)
            except subprocess.TimeoutExpired:
                input = None  # it was sent
                if deadline is not None and active_time() >= deadline:
                    raise
            else:
                status = process.returncode
                return subprocess.CompletedProcess(process.args, status, output, errors)
    except BaseException:
        process.kill()
        raise
    finally:
        _running.discard(process)


def stop_programs() -> None:
    """Terminate what `run_program` runs in any thread, and let it start no other.

    A thread would otherwise start the next program while the process ends, and leave it.
    """
    with _starting:
        _is_stopped.set()
        programs = tuple(_running)
        for process in programs:
            process.terminate()
    for process in programs:  # they may write into folders that are about to be removed
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_SECONDS)


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of a program's errors, or of its output; "no reason given" for none."""
    lines = (process.stderr.strip() or process.stdout.strip() or "no reason given").splitlines()
    return lines[-1]
