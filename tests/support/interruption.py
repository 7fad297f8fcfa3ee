"""Interrupt a command at a moment, in a checkout of its own, and see what it left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.host.config.load import ROOT

CLEANS_UP = """
import time
from scripts.host.interruption import raise_on_signals
raise_on_signals()
try:
    print("running", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("cleaning up", flush=True)
    time.sleep(1)
    print("done")
"""
"""Program whose clean-up takes a second."""


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a command.

    Args:
        status: its exit status.
        output: what it printed.
        errors: what it printed to standard error.
        seconds: how long it ran.
        left: files in its folder for temporary files.
        running: processes of its session that run on.
    """

    status: int
    output: str
    errors: str
    seconds: float
    left: tuple[str, ...]
    running: tuple[str, ...]

    @property
    def was_running(self) -> bool:
        """False if the signal came while Python and invoke started, or while Python ended."""
        by_default = self.status in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)
        by_default = by_default and self.errors.splitlines()[-1:] != ["interrupted"]
        return not (by_default or (self.status == 1 and not self.errors))

    def says_interrupted(self, stop: signal.Signals) -> bool:
        """Return whether its status and its last line say that a signal interrupted it.

        `python -m`, not a script as `invoke` is, ends by SIGINT where the interrupt came inside of
        an `exec`, as dataclasses have it.
        """
        is_status = self.status in (128 + stop, -signal.SIGINT)
        return is_status and self.errors.splitlines()[-1:] == ["interrupted"]


def make_program(root: Path) -> Path:
    """Copy what `invoke` needs into a checkout, beside its own config."""
    for name in ("scripts", "tasks.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    return root


def run_until(
    root: Path,
    *arguments: str,
    module: str = "invoke",
    after: float | None = None,
    stop: int = signal.SIGINT,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `python -m MODULE ARGUMENTS` in a checkout, and interrupt it.

    Args:
        root: the checkout, from `make_program`.
        arguments: of the module.
        module: invoke or nox.
        after: seconds until the signal; None for none.
        stop: the signal; SIGINT goes to all processes of the session, as from a terminal.
        environment: added to this process's own.
    """
    scratch = root.parent / f"{root.name}-tmp"
    scratch.mkdir(exist_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env={**os.environ, "TMPDIR": str(scratch), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As at a terminal: what runs in the background of a script inherits that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=after if after is not None else 300)
    except subprocess.TimeoutExpired:
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)
        else:
            process.send_signal(stop)
        output, errors = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    left = tuple(sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*")))
    until = time.monotonic() + 2  # a killed program's own children see that a moment later
    while (running := _session_of(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    return Ended(process.returncode, output, errors, seconds, left, running)


def _session_of(leader: int) -> tuple[str, ...]:
    """Return the commands of a session's processes that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(command.strip())
    return tuple(found)
