"""Installers of extensions are recorded in a container from which nothing can be reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import docker
import pytest

from scripts.common.extensions.pip_requests import read_recorded_calls
from scripts.common.extensions.run_installer import InstallerRun
from scripts.host.engine.client import client
from scripts.host.extensions.git_tree import TreeFile
from scripts.host.pin.installer_recording import record_installer
from tests.support.git_server import SOURCES, WEBUI
from tests.support.images import base_runtime

pytestmark = pytest.mark.engine

_FOLDER = SOURCES[0] / WEBUI


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    connected = client()
    yield connected
    connected.close()


def record(
    engine: docker.DockerClient, installer: str, models: Sequence[str] = (), **files: str
) -> InstallerRun:
    """Record an installer that stands beside some files, with the WebUI of the tests."""
    webui = [
        TreeFile(str(path.relative_to(_FOLDER)), path.read_bytes())
        for path in _FOLDER.rglob("*.py")
    ]
    extension = [TreeFile("install.py", installer.encode())]
    extension += [TreeFile(name, text.encode()) for name, text in files.items()]
    return record_installer(
        engine, base_runtime(), "sd-webui-x", webui, extension, map(PurePosixPath, models)
    )


def asked(done: InstallerRun) -> list[tuple[str, bool]]:
    return [(each.text, each.with_dependencies) for each in read_recorded_calls(done.calls)]


def test_each_way_to_call_pip_is_recorded(engine: docker.DockerClient) -> None:
    done = record(
        engine,
        "import subprocess, sys, launch\n"
        "from packaging.version import parse\n"
        "from tqdm import tqdm\n"
        "launch.run_pip('install \"one<=1.5\" two', 'x')\n"
        "launch.run(f'\"{sys.executable}\" -m pip install -q -r /tmp/none -U three', 'x', 'y')\n"
        "subprocess.check_call([sys.executable, '-m', 'pip', 'install', '--no-deps', 'four'])\n"
        "launch.run_pip('install five>=2', 'a shell makes a file of it')\n"
        "subprocess.run([sys.executable, '-m', 'pip', 'uninstall', '-y', 'torch'], check=True)\n"
        "import torch\n",
    )
    assert done.status == 0, done.output
    assert asked(done) == [
        *(("one<=1.5", True), ("two", True), ("three", True), ("four", False), ("five", True)),
    ]


def test_an_installer_reaches_nothing(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    done = record(
        engine,
        "import os, socket, sys\n"
        "from pathlib import Path\n"
        "print('token', os.environ.get('HF_TOKEN'), 'user', os.getuid(), os.getgid())\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print([line.split()[1] for line in status.splitlines() if line.startswith('CapEff')])\n"
        "print('networks', sorted(os.listdir('/sys/class/net')))\n"
        "print('input', repr(sys.stdin.read()))\n"
        "for path in ('/etc/passwd', '/opt/new'):\n"
        "    try: open(path, 'a')\n"
        "    except PermissionError: print('refused', path)\n"
        "print('flags', os.environ['COMMANDLINE_ARGS'], Path.cwd().name)\n"
        "Path(__file__).with_name('written').touch()\n",
    )
    assert done.status == 0, done.output
    assert done.output.splitlines() == [
        "token None user 65534 65534",
        "['0000000000000000']",
        "networks ['lo']",
        "input ''",
        "refused /etc/passwd",
        "refused /opt/new",
        "flags --data-dir /tmp/recording/data webui",
    ]


def test_models_of_the_image_are_there(engine: docker.DockerClient) -> None:
    models = ("models/insightface/inswapper.onnx", "extensions/sd-webui-x/weights/own.pth")
    done = record(
        engine,
        "import os, shlex\n"
        "from pathlib import Path\n"
        "data = Path(shlex.split(os.environ['COMMANDLINE_ARGS'])[1])\n"
        "assert (data / 'models/insightface/inswapper.onnx').exists()\n"
        "(data / 'models/insightface/beside.onnx').touch()\n"
        "assert (Path(__file__).parent / 'weights/own.pth').exists()\n",
        models,
    )
    assert done.status == 0, done.output


def test_calls_before_a_crash_are_kept(engine: docker.DockerClient) -> None:
    done = record(engine, "import launch\nlaunch.run_pip('install one', '')\nimport insightface")
    assert done.status == 1
    assert done.last_line == "ModuleNotFoundError: No module named 'insightface'"
    assert asked(done) == [("one", True)]
