"""An installer runs as A1111's launcher runs it, and ends with everything that it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scripts.common.extensions.pip_requests import read_recorded_calls
from scripts.common.extensions.run_installer import (
    InstallerRun,
    installer_environment,
    run_installer,
)
from tests.support.git_server import SOURCES, WEBUI

A1111 = SOURCES[0] / WEBUI


def run(folder: Path, installer: str, timeout: float = 60) -> InstallerRun:
    """Record an installer."""
    (folder / "install.py").write_text(installer)
    environment = installer_environment(A1111, folder / "data folder")
    return run_installer(folder, A1111, environment, answer="record", timeout=timeout)


def test_calls_and_output_of_both_streams_are_kept(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import sys, launch\n"
        "print('out', flush=True)\n"
        "launch.run_pip('install \"one<=1\"', 'one')\n"
        "print('err', file=sys.stderr)\n",
    )
    assert done.status == 0, done.output
    assert [each.text for each in read_recorded_calls(done.calls)] == ["one<=1"]
    assert done.output.startswith("out\n")
    assert done.last_line == "err"


def test_flags_reach_an_installer_by_the_variable_that_it_sees(tmp_path: Path) -> None:
    done = run(tmp_path, "import os, shlex; print(shlex.split(os.environ['COMMANDLINE_ARGS']))")
    assert done.last_line == str(["--data-dir", str(tmp_path / "data folder")])


def test_what_an_installer_leaves_running_ends_with_it(tmp_path: Path) -> None:
    child = "import time, pathlib; time.sleep(1); pathlib.Path('late').touch()"
    done = run(
        tmp_path,
        "import subprocess, sys\n"
        f"print(subprocess.Popen([sys.executable, '-c', {child!r}], cwd={str(tmp_path)!r}).pid)\n",
    )
    assert done.status == 0, done.output
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_an_installer_that_does_not_end_is_killed(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run(
        tmp_path,
        "import launch, time, signal\n"
        "launch.run_pip('install early', 'early')\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(60)\n",
        timeout=5,
    )
    assert time.monotonic() - start < 30
    assert done.status is None
    assert [each.text for each in read_recorded_calls(done.calls)] == ["early"]


def test_a_pythonpath_of_ours_does_not_hide_the_webui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run(tmp_path, "import sys; print(sys.path[1])")
    assert done.last_line == str(A1111)
    assert os.environ["PYTHONPATH"] == str(tmp_path)


def test_no_output_is_a_sentence() -> None:
    assert InstallerRun(1, "\n", "").last_line == "it printed nothing"


def test_commands_to_a_terminal_are_not_passed_on() -> None:
    done = InstallerRun(1, "before\n\x1b]0;title\x07bad\r\n\x1b[2J\n", "")
    assert done.lines == ["before", "]0;titlebad", "[2J"]
