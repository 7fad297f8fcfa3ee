"""Run an extension's `install.py` as A1111's launcher does, and record what it asks of pip.

The launcher runs it with the WebUI's folder as the working directory and first on PYTHONPATH
(`run_extension_installer` in `modules/launch_utils.py`); an installer imports `launch` from there.
Of the flags it sees COMMANDLINE_ARGS only, so the data folder is named there.

Imports the standard library only, and runs alone with any Python 3.10 or newer, too:

    python run_installer.py EXTENSION WEBUI DATA [FOLDER_OF_PYTHON_PACKAGES...]

records (the packages are not installed) and prints an `InstallerRun` as JSON.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

INSTALLER: Final = "install.py"
RECORDER: Final = Path(__file__).parent / "pip_recorder"
"""Folder that goes first on PYTHONPATH; it contains a `pip` that records its calls."""

_RECORD_TIMEOUT: Final = 120.0  # seconds; without a download an installer takes one or two
_OUTPUT: Final = 20_000  # characters of an installer's output that are kept, from its end


@dataclass(frozen=True)
class InstallerRun:
    """The end of an installer, and pip's calls.

    Args:
        status: exit status; negative for a signal, None if it did not end in time.
        output: what it printed, from its end.
        calls: log of `pip_recorder`; `read_recorded_calls` reads it.
    """

    status: int | None
    output: str
    calls: str

    @property
    def lines(self) -> list[str]:
        """The lines that it printed, without what a terminal would take for commands."""
        lines = ("".join(filter(str.isprintable, line)) for line in self.output.splitlines())
        return [line.strip() for line in lines if line.strip()]

    @property
    def last_line(self) -> str:
        """The last line that it printed; a sentence where it printed nothing."""
        return self.lines[-1] if self.lines else "it printed nothing"


def installer_environment(
    webui: Path, data: Path, paths: Sequence[Path] = (), base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment of an installer.

    Args:
        webui: the WebUI's sources.
        data: the WebUI's data folder, below which installers look for model files.
        paths: further folders of Python packages.
        base: the environment to begin with; PYTHONPATH in it is replaced, since a package named
            `scripts` there would hide the WebUI's.
    """
    return {
        **base,
        "PYTHONPATH": os.pathsep.join(map(str, (webui, RECORDER, *paths))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # what it printed last is the last line, of whichever stream
        "COMMANDLINE_ARGS": shlex.join(["--data-dir", str(data)]),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
    }


def run_installer(
    extension: Path,
    webui: Path,
    environment: Mapping[str, str],
    *,
    answer: Literal["record", "run"],
    timeout: float,
    python: str = sys.executable,
) -> InstallerRun:
    """Run the installer of an extension and everything that it starts, to its end.

    Args:
        extension: folder with the installer.
        webui: the WebUI's sources.
        environment: of `installer_environment`.
        answer: `record`: pip installs nothing and succeeds; `run`: the real pip answers.
        timeout: seconds after which it is killed, with its children.
        python: the interpreter that runs it.
    """
    with tempfile.TemporaryDirectory(prefix="installer-") as folder:
        calls, output = Path(folder, "calls"), Path(folder, "output")
        calls.touch()
        status: int | None = None
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [python, str(extension / INSTALLER)],
                cwd=webui,
                env={
                    **environment,
                    "PIP_RECORDER_LOG": str(calls),
                    "PIP_RECORDER_ANSWER": answer,
                },
                # TensorRT's starts a bare `python`, which would read programs from a terminal.
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(timeout)
            finally:
                _kill_session(process)
        text = output.read_bytes()[-4 * _OUTPUT :].decode("utf-8", "replace")
        return InstallerRun(status, text[-_OUTPUT:], calls.read_text(encoding="utf-8"))


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and the children that it left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Record what one installer asks of pip."""
    extension, webui, data, *paths = map(Path, sys.argv[1:])
    done = run_installer(
        extension,
        webui,
        installer_environment(webui, data, paths),
        answer="record",
        timeout=_RECORD_TIMEOUT,
    )
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
