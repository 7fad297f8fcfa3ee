"""Run a program and capture its output."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.common.diagnostics.error import UserError


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
        timeout: seconds after which it is killed.
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
        return subprocess.run(
            argv,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
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


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of a program's errors, or of its output; "no reason given" for none."""
    lines = (process.stderr.strip() or process.stdout.strip() or "no reason given").splitlines()
    return lines[-1]
