"""Extensions of image and volume: copied, installed once, and left out where they fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import packaging
import pytest

from scripts.common.pip_cache.log_statistics import read_runs
from scripts.container.settings import Settings
from scripts.container.webui.extensions.extension_copies import LARGE
from scripts.container.webui.extensions.find_extensions import Extension
from scripts.container.webui.extensions.installer import Installer
from scripts.container.webui.extensions.package_store import PackageStore
from scripts.container.webui.extensions.pip_output import find_conflicts
from tests.support.namespaces import needs_namespaces
from tests.support.pip_index import sdist
from tests.support.wheels import make_wheel, serve_index
from tests.support.worker import Worker

SWALLOWS = (
    "import launch\ntry:\n    launch.run_pip('install {0}')\nexcept RuntimeError:\n    pass\n"
)
DUMPS = """
import os, pathlib
pathlib.Path(__file__).with_name("env").write_text(repr(dict(os.environ)))
"""
WRITES = """
from pathlib import Path
Path(__file__).parents[1].joinpath("own.json").write_text("{}")
"""
CALLS = 'import launch\nlaunch.run_pip("install {0}", "{0}")\n'
LAUNCH = """
import subprocess, sys

def run_pip(command, desc=None):
    line = f'"{sys.executable}" -m pip {command} --prefer-binary'
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Couldn't install {desc}: {done.stdout}{done.stderr}")
"""


class Place:
    """A worker's image, volume and index, all of them folders."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.volume, self.image, self.index = tmp / "volume", tmp / "image", tmp / "index"
        self.index.mkdir()
        self.workers: list[Worker] = []

    def extension(self, name: str, *, baked: bool = False, **files: str) -> Path:
        """Make an extension; a file's name has _ for / and ends without .py."""
        folder = (self.image if baked else self.volume / "extensions") / name
        for path, text in files.items():
            file = folder / f"{path.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder

    def start(self, name: str = "w", **environment: str) -> Worker:
        """Start a worker with folders of its own."""
        folder = self.tmp / name
        (folder / "webui").mkdir(parents=True, exist_ok=True)
        (folder / "webui/launch.py").write_text(LAUNCH)
        (folder / "worker/state.json").unlink(missing_ok=True)  # of a worker that was killed
        settings = {
            "VOLUME_DIR": str(self.volume),
            "POD_VOLUME_DIR": str(self.tmp / "none"),
            "IMAGE_EXTENSIONS": str(self.image),
            "PIP_CACHE_DIR": str(self.volume / "pip"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "HF_TOKEN": "hf_secret_of_the_worker",
            "MY_SECRET_KEY": "secret_of_mine",
        }
        self.workers.append(Worker(folder, **{**settings, **environment}))
        return self.workers[-1]

    def python_after(self, commands: str) -> str:
        """Make a Python that first runs commands of mounting that it alone sees."""
        python = self.tmp / "python"
        script = f'\'{commands} && exec {sys.executable} "$@"\' sh "$@"'
        unshare = "exec unshare --user --map-root-user --mount sh -c"
        python.write_text(f"#!/bin/sh\n{unshare} {script}\n")
        python.chmod(0o755)
        return str(python)

    @property
    def environments(self) -> list[str]:
        """Names of what is in the folder of packages, without locks."""
        folder = self.volume / ".cache/a1111/extensions"
        return sorted(each.name for each in folder.glob("[!.]*"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for worker in made.workers:
        worker.stop()


def writes(name: str) -> str:
    """A script that leaves a file beside the data folder's extensions when it is loaded."""
    return f"from pathlib import Path\nPath(__file__).parents[3].joinpath({name!r}).touch()\n"


def test_a_baked_extension_gets_a_copy_that_it_may_write_into(place: Place) -> None:
    baked = place.extension("presets", baked=True, scripts__presets=WRITES)
    (baked / ".git/refs/heads").mkdir(parents=True)
    (baked / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (baked / "weights.bin").write_bytes(b"\0" * LARGE)
    (baked / "link.json").symlink_to("scripts/presets.py")
    worker = place.start()
    assert worker.ready().extensions == {"presets": ""}
    copy = worker.dir / "data/extensions/presets"
    assert (copy / "own.json").read_text() == "{}"
    assert not (baked / "own.json").exists()
    assert (copy / "weights.bin").readlink() == baked / "weights.bin"
    assert (copy / "link.json").read_text() == WRITES
    assert (copy / ".git/refs/heads").is_dir()
    assert worker.seen["env"]["YOLO_AUTOINSTALL"] == "false"


def test_without_extensions_the_environment_is_as_before(place: Place) -> None:
    worker = place.start()
    assert worker.ready().extensions == {}
    assert not {"PYTHONFAULTHANDLER", "COMMANDLINE_ARGS", "U2NET_HOME"} & worker.seen["env"].keys()
    assert not place.volume.exists()


def test_a_copy_stays_with_what_was_written_until_its_source_changes(place: Place) -> None:
    source = place.extension("presets", scripts__a=writes("loaded"))
    place.start().ready()
    copy = place.tmp / "w/worker/data/extensions/presets"
    (copy / "saved").touch()
    place.workers[0].stop()
    place.start().ready()
    assert (copy / "saved").exists()
    place.workers[1].stop()
    (source / "scripts/a.py").write_text("changed = True\n")
    (copy.parents[1] / "extensions/own").mkdir()
    place.start().ready()
    assert not (copy / "saved").exists()
    assert (copy / "scripts/a.py").read_text() == "changed = True\n"
    shutil.rmtree(source)
    place.workers[2].stop()
    place.start().ready()
    assert not copy.exists()
    assert (copy.parent / "own").is_dir(), "a user's own folder is never removed"


def test_an_extension_whose_ui_raises_is_left_out_and_the_rest_serves(place: Place) -> None:
    place.extension(
        "bad-ui", baked=True, scripts__a="def ui():\n    raise TypeError('no presets')\n"
    )
    place.extension("good", baked=True, scripts__a=writes("good"))
    worker = place.start(RESTARTS="0")
    state = worker.ready()
    assert state.extensions == {"bad-ui": "TypeError: no presets", "good": ""}
    assert state.restarts == 0
    assert "event=extension-broken extension=bad-ui" in worker.log_text
    assert "event=webui-died" not in worker.log_text
    assert worker.draw().status == 200
    health = subprocess.run(
        [sys.executable, "-m", "scripts.container", "health"],
        env=worker.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert health.stdout.strip() == "ready, with broken extensions: bad-ui"
    assert health.returncode == 0


def test_the_next_start_tries_an_extension_again(place: Place) -> None:
    bad = place.extension("bad-ui", scripts__a="def ui():\n    raise TypeError('no presets')\n")
    place.start().ready()
    place.workers[0].stop()
    (bad / "scripts/a.py").write_text("def ui():\n    pass\n")
    assert place.start().ready().extensions == {"bad-ui": ""}


prints_a_c_stack = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="a crash of the image's Python, 3.11, prints no C stack"
)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"preload": "import sys\ndef preload(parser):\n    sys.exit('no GPU')\n"},
            "SystemExit: no GPU",
        ),
        pytest.param(
            {"scripts__a": "import ctypes\nctypes.string_at(0)\n"},
            "Segmentation fault",
            marks=prints_a_c_stack,
        ),
        pytest.param({"scripts__a": "import os\nos.abort()\n"}, "Aborted", marks=prints_a_c_stack),
        ({"scripts__a": "raise SystemExit(3)\n"}, "SystemExit: 3"),
        ({"scripts__a": "import os\nos._exit(3)\n"}, "os._exit(3)"),
    ],
)
def test_an_extension_that_ends_the_webui_is_left_out(
    place: Place, files: dict[str, str], reason: str
) -> None:
    place.extension("ends", baked=False, **files)
    worker = place.start(RESTARTS="0")
    assert worker.ready().extensions == {"ends": reason}


def test_scripts_that_do_not_load_are_named_once_and_the_others_serve(place: Place) -> None:
    lacking = {f"scripts__{name}": f"import no_{name}\n" for name in "ab"}
    place.extension("half", baked=False, **lacking, scripts__c=writes("c"))
    place.extension("bad-ui", scripts__a="def ui():\n    raise TypeError('no presets')\n")
    worker = place.start()
    assert worker.ready().extensions["half"] == "; ".join(
        f"Error loading script: {name}.py: ModuleNotFoundError: No module named 'no_{name}'"
        for name in "ab"
    )
    assert (worker.dir / "data/c").exists()
    assert worker.log_text.count("event=extension-broken extension=half") == 2


def test_a_strict_worker_refuses_with_a_broken_extension(place: Place) -> None:
    place.extension("bad-ui", scripts__a="def ui():\n    raise TypeError('no presets')\n")
    worker = place.start(PREFLIGHT="strict")
    assert worker.ended() == 3
    assert 'event=refused reason="broken extensions: bad-ui"' in worker.log_text


def test_a_flag_of_an_extension_that_is_left_out_does_not_end_the_webui(place: Place) -> None:
    preload = (
        "def preload(parser):\n    parser.add_argument('--extension-flag', action='store_true')\n"
    )
    place.extension("flagged", preload=preload, scripts__a="def ui():\n    raise TypeError\n")
    worker = place.start(WEBUI_ARGS="--extension-flag", RESTARTS="0")
    assert worker.ready().extensions == {"flagged": "TypeError"}


def test_what_an_extension_on_the_volume_needs_is_installed_once(place: Place) -> None:
    make_wheel(place.index, "newcomer", "2.0")
    script = "import newcomer\n" + writes("loaded")
    source = place.extension("needs", install=CALLS.format("newcomer"), scripts__a=script)
    first = place.start("first")
    assert first.ready().extensions == {"needs": ""}
    assert (first.dir / "data/loaded").exists()
    assert "event=extension-installed extension=needs packages=1" in first.log_text
    assert sorted(path.name for path in source.iterdir()) == ["install.py", "scripts"]
    shutil.rmtree(place.index)
    second = place.start("second")
    assert second.ready().extensions == {"needs": ""}
    assert (second.dir / "data/loaded").exists()
    assert "extension-install" not in second.log_text
    assert len(place.environments) == 1
    assert read_runs(place.volume / "pip").runs == 1


def test_the_pip_cache_of_the_volume_serves_the_next_installation(place: Place) -> None:
    make_wheel(place.index, "newcomer", files={"newcomer.bin": os.urandom(100_000)})
    source = place.extension("needs", install=CALLS.format("newcomer"))
    with serve_index(place.index) as index:
        # pip caches nothing that comes by plain HTTP, unless the host is trusted.
        index_options = {"PIP_INDEX_URL": index, "PIP_TRUSTED_HOST": "127.0.0.1"}
        options = {**index_options, "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}
        place.start("first", **options).ready()
        (source / "install.py").write_text(CALLS.format("newcomer==1.0"))
        worker = place.start("second", **options)
        assert worker.ready().extensions == {"needs": ""}
    runs = read_runs(place.volume / "pip")
    assert (runs.runs, runs.hits, runs.misses) == (2, 1, 1)


def test_an_update_of_the_extension_is_installed_anew(place: Place) -> None:
    make_wheel(place.index, "newcomer", "2.0")
    source = place.extension("needs", install=CALLS.format("newcomer"))
    place.start("first").ready()
    (source / "install.py").write_text(CALLS.format("newcomer==2.0"))
    worker = place.start("second")
    worker.ready()
    assert "event=extension-installed" in worker.log_text
    assert len(place.environments) == 2


def test_constraints_of_the_user_count_and_a_change_of_them_installs_anew(place: Place) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(place.index, "newcomer", version)
    show = "import newcomer\n" + writes("loaded").replace("'loaded'", "newcomer.version")
    place.extension("needs", install=CALLS.format("newcomer"), scripts__a=show)
    constraints = place.tmp / "constraints.txt"
    for bound, expected in (("newcomer<2\n", "1.0"), ("", "2.0")):
        constraints.write_text(bound)
        worker = place.start(expected, PIP_CONSTRAINT=str(constraints))
        worker.ready()
        assert (worker.dir / "data" / expected).exists()


def test_a_conflict_with_the_image_is_named_from_both_sides(place: Place) -> None:
    make_wheel(place.index, "wants_old", requires=("packaging<5",))
    make_wheel(place.index, "packaging", "4.0")
    install = SWALLOWS.format("wants_old")
    place.extension("conflicts", install=install, scripts__a=writes("loaded"))
    place.extension("good", scripts__a=writes("good"))
    worker = place.start()
    reason = worker.ready().extensions["conflicts"]
    assert reason == (
        f"wants-old 1.0 depends on packaging<5, but the image has packaging {packaging.__version__}"
    )
    assert not (worker.dir / "data/loaded").exists()
    assert (worker.dir / "data/good").exists()
    assert worker.seen["env"]["EXTENSION_PACKAGES"] == ""
    place.workers[0].stop()
    again = place.start("again")
    assert again.ready().extensions["conflicts"] == reason
    assert "extension-installing" not in again.log_text, "a conflict is remembered"


@pytest.mark.parametrize(
    ("install", "reason"),
    [
        (
            "import sys\nsys.exit('no compiler was found')\n",
            "its installer failed: no compiler was found",
        ),
        (
            SWALLOWS.format("nowhere"),
            "install.py asks for nowhere, but it is not installed"
            " (No matching distribution found for nowhere)",
        ),
    ],
)
def test_an_installer_that_fails_is_named_and_tried_again(
    place: Place, install: str, reason: str
) -> None:
    source = place.extension("fails", install=install)
    assert place.start("first").ready().extensions == {"fails": reason}
    assert place.environments == []
    (source / "install.py").write_text("print('fine')\n")
    assert place.start("second").ready().extensions == {"fails": ""}


def test_a_package_that_cannot_be_built_here_is_not_tried_at_each_start(place: Place) -> None:
    place.index.mkdir(exist_ok=True)
    (place.index / "built_here-1.0.tar.gz").write_bytes(sdist("no compiler was found"))
    source = place.extension("compiles", install=SWALLOWS.format("built-here"))
    reason = place.start("first").ready().extensions["compiles"]
    assert reason.startswith("install.py asks for built-here, but it is not installed (")
    place.workers[0].stop()
    again = place.start("again")
    assert again.ready().extensions == {"compiles": reason}
    assert "extension-installing" not in again.log_text
    (source / "install.py").write_text("print('an update does without')\n")
    assert place.start("third").ready().extensions == {"compiles": ""}


def test_no_secret_of_the_worker_reaches_an_installer(place: Place) -> None:
    place.extension("prints", install=DUMPS)
    worker = place.start(API_AUTH="user:password", RUNPOD_WEBHOOK_GET_JOB="x", WORKER_MODE="pod")
    worker.ready()
    seen = (worker.dir / "data/extensions/prints/env").read_text()
    for text in ("hf_secret", "secret_of_mine", "user:password", "WEBHOOK"):
        assert text not in seen
    assert f"--data-dir {worker.dir}/data" in seen


def test_what_an_installer_writes_into_its_folder_is_there_at_the_next_start(place: Place) -> None:
    install = "import pathlib\npathlib.Path(__file__).with_name('made.json').write_text('made')\n"
    place.extension("writes", install=install)
    place.start("first").ready()
    worker = place.start("second")
    worker.ready()
    assert (worker.dir / "data/extensions/writes/made.json").read_text() == "made"
    assert "extension-installing" not in worker.log_text


def test_off_leaves_volumes_alone(place: Place) -> None:
    place.extension("needs", install="raise SystemExit('ran')\n")
    assert place.start(VOLUME_EXTENSIONS="off").ready().extensions == {}


def test_one_worker_installs_while_another_waits_and_says_so(place: Place) -> None:
    make_wheel(place.index, "newcomer")
    gate = place.tmp / "gate"
    os.mkfifo(gate)
    install = f"open({str(gate)!r}).read()\n" + CALLS.format("newcomer")
    place.extension("slow", install=install, scripts__a="import newcomer\n")
    first = place.start("first")
    with gate.open("w"):  # opens when the installer reads
        second = place.start("second")
        waits = "another worker installs the packages of extension slow"
        second.until(lambda: second.state.reason == waits, "waiting")
    assert "event=extension-waits extension=slow" in second.log_text
    assert first.ready().extensions == second.ready().extensions == {"slow": ""}
    assert 'by="another worker"' in second.log_text


def test_a_worker_killed_while_it_installs_leaves_nothing_that_is_used(place: Place) -> None:
    make_wheel(place.index, "newcomer")
    gates = [place.tmp / "gate-1", place.tmp / "gate-2"]
    for gate in gates:
        os.mkfifo(gate)
    install = CALLS.format("newcomer") + "import os\nopen(os.environ['GATE']).read()\n"
    place.extension("slow", install=install, scripts__a="import newcomer\n")
    first = place.start("first", GATE=str(gates[0]))
    with gates[0].open("w"):  # the package is installed when the installer reads
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        [partial] = place.environments
    assert partial.endswith(".partial")
    second = place.start("second", GATE=str(gates[1]))
    gates[1].open("w").close()
    assert second.ready().extensions == {"slow": ""}
    assert len(place.environments) == 1
    assert place.environments != [partial]


def test_an_installer_that_does_not_end_is_killed_in_time(place: Place) -> None:
    place.extension("endless", install="import time\ntime.sleep(600)\n")
    worker = place.start(READY_TIMEOUT="10")
    began = time.monotonic()
    assert worker.ready().extensions == {"endless": "its installer did not end in time"}
    assert time.monotonic() - began < 10


@needs_namespaces
def test_packages_of_a_volume_that_is_read_only_are_used(place: Place) -> None:
    make_wheel(place.index, "newcomer")
    place.extension("needs", install=CALLS.format("newcomer"), scripts__a="import newcomer\n")
    place.start("first").ready()
    volume = place.volume
    mount = f"mount --bind {volume} {volume} && mount -o remount,bind,ro {volume}"
    worker = place.start("second", python=place.python_after(mount))
    assert worker.ready().extensions == {"needs": ""}
    assert "event=packages-ephemeral" in worker.log_text
    assert "event=extension-installing" not in worker.log_text


@needs_namespaces
def test_a_full_volume_is_named_and_the_rest_serves(place: Place) -> None:
    make_wheel(place.index, "newcomer", files={"newcomer.bin": os.urandom(8_000_000)})
    source = place.extension("needs", install=CALLS.format("newcomer"))
    place.extension("good", baked=True, scripts__a=writes("good"))
    # A worker that alone sees a volume of 4 MB, with the extension on it.
    inside = (
        f"cp -r {source} {place.tmp} && mount -t tmpfs -o size=4m none {place.volume}"
        f" && mkdir {place.volume}/extensions && cp -r {place.tmp}/needs {place.volume}/extensions"
    )
    worker = place.start(python=place.python_after(inside))
    reason = worker.ready().extensions["needs"]
    assert "no space left on device" in reason.lower()
    assert (worker.dir / "data/good").exists()
    assert worker.draw().status == 200


def test_a_volume_that_vanishes_is_named_and_the_rest_serves(place: Place) -> None:
    install = f"import shutil\nshutil.rmtree({str(place.volume)!r})\n"
    place.extension("vanishes", install=install)
    place.extension("good", baked=True, scripts__a=writes("good"))
    worker = place.start()
    states = worker.ready().extensions
    assert states["good"] == ""
    assert states["vanishes"].startswith("its packages cannot be installed: no such file")


def test_of_two_versions_the_first_counts_if_the_other_extension_can_do_with_it(
    place: Place,
) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(place.index, "shared", version)
    place.extension("a", install=CALLS.format("shared==1.0"))
    place.extension("b", install=CALLS.format("shared==2.0"))
    place.extension("c", install=CALLS.format("shared"))
    states = place.start().ready().extensions
    assert states == {
        "a": "",
        "b": "install.py asks for shared==2.0, but shared 1.0 is installed",
        "c": "",
    }


def test_packages_of_one_extension_are_not_displaced_by_those_of_another(place: Place) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(place.index, "shared", version)
    make_wheel(place.index, "modern", requires=("shared>=2",))
    place.extension("a", install=CALLS.format("shared==1.0"))
    place.extension("b", install=CALLS.format("modern"))
    assert place.start().ready().extensions == {
        "a": "",
        "b": "modern requires shared>=2, but shared 1.0 comes first",
    }


def test_the_order_of_names_counts_whatever_was_installed_first(place: Place) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(place.index, "shared", version)
    place.extension("b", install=CALLS.format("shared"))
    place.start("first").ready()
    place.extension("a", install=CALLS.format("shared==1.0"))
    assert place.start("second").ready().extensions == {"a": "", "b": ""}


def test_only_the_ends_of_a_conflict_are_told() -> None:
    lines = (
        "ERROR: Cannot install a==1 and a==2 because these package versions have conflicting"
        " dependencies.",
        "",
        "The conflict is caused by:",
        "    a 2 depends on protobuf<5 and >=4.25.3",
        "    a 1 depends on protobuf<5 and >=4.25.3",
        "    The user requested (constraint) protobuf==3.20.3",
        "",
        "To fix this you could try to:",
    )
    log = "".join(f"2026-11-27T20:54:00,123 {line}\n" for line in lines)
    assert find_conflicts(log) == [
        "a 2 depends on protobuf<5 and >=4.25.3, but the image has protobuf 3.20.3"
    ]


def test_extensions_of_an_own_data_folder_are_used_in_place(place: Place) -> None:
    make_wheel(place.index, "newcomer")
    data = place.volume / "stable-diffusion-webui"
    own, bad = data / "extensions/own", data / "extensions/bad"
    for folder, text in ((own, "import newcomer\n"), (bad, "def ui():\n    raise TypeError\n")):
        (folder / "scripts").mkdir(parents=True)
        (folder / "scripts/a.py").write_text(text)
    (own / "install.py").write_text(CALLS.format("newcomer"))
    config = data / "config.json"
    config.write_text('{"disabled_extensions": ["other"]}')
    worker = place.start("first", DATA_DIR=str(data))
    assert worker.ready().extensions == {"bad": "TypeError", "own": ""}
    assert json.loads(config.read_text())["disabled_extensions"] == ["bad", "other"]
    env = json.loads((data / "seen.json").read_text())["env"]
    assert (env["GIT_CONFIG_KEY_0"], env["GIT_CONFIG_VALUE_0"]) == ("safe.directory", "*")
    assert sorted(path.name for path in own.iterdir()) == ["install.py", "scripts"]
    (bad / "scripts/a.py").write_text("")
    worker = place.start("second", DATA_DIR=str(data))
    assert worker.ready().extensions == {"bad": "", "own": ""}
    assert json.loads(config.read_text())["disabled_extensions"] == ["other"]


OVERTAKEN = """
from pathlib import Path
place = Path(Path("place").read_text())
place.mkdir()
(place / "installed.json").write_text('{"seconds": 7.0}')
"""


def test_without_locks_the_first_to_be_done_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:  # no file system at hand is really without
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    # Its installer does what another worker would meanwhile.
    place.extension("needs", install=OVERTAKEN)
    variables = {"WORKER_DIR": str(place.tmp), "WEBUI_PYTHON": sys.executable}
    settings = Settings.from_environment({**variables, "WEBUI_DIR": str(place.tmp)})
    env = {"PATH": os.environ["PATH"], "PIP_LOG": str(place.tmp / "pip.log")}
    installer = Installer(settings, env, time.monotonic() + 60)
    store = PackageStore([place.volume / "packages"], installer, installer.describe_image(), "cpu")
    extension = Extension("needs", place.volume / "extensions/needs", "volume")
    (place.tmp / "place").write_text(str(store.environment(extension)))
    record, is_own = store.install(extension, extension.path, lambda: None)
    assert (record.seconds, record.problem, is_own) == (7.0, "", False)
    assert list((place.volume / "packages").glob("[!.]*")) == [store.environment(extension)]
