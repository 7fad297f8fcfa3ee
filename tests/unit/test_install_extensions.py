"""The build's step that runs installers believes what is installed, not exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.extensions.extension_manifest import MANIFEST_NAME, BakedExtension, as_json
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.host.config.load import ROOT
from tests.support.git_server import SOURCES, WEBUI

A1111 = SOURCES[0] / WEBUI
COMMIT = "a" * 40


class Image:
    """Folders as the step finds them in the build."""

    def __init__(self, folder: Path) -> None:
        self.extensions, self.models = folder / "extensions", folder / "models"
        self.lock = folder / "lock.txt"
        self.lock.write_text("# a lock\n")
        for each in (self.extensions, self.models / "extra"):
            each.mkdir(parents=True)
        self.baked: list[BakedExtension] = []

    def add(self, name: str, installer: str, **keys: object) -> Path:
        """Add an extension with an installer, and return its folder."""
        row = {"name": name, "repo": name, "branch": "main", "commit": COMMIT, **keys}
        self.baked.append(BakedExtension(**row))  # type: ignore[arg-type]
        (self.extensions / MANIFEST_NAME).write_text(as_json(self.baked))
        folder = self.extensions / name
        folder.mkdir()
        (folder / "install.py").write_text(installer)
        return folder

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run the step."""
        script = ROOT / "scripts/image/install-extensions.py"
        paths = (self.extensions, A1111, self.lock, self.models)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, str(script), *map(str, paths)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_installers_run_once_and_what_they_write_in_their_folder_stays(image: Image) -> None:
    folder = image.add(
        "one",
        "import os, sys, json, launch\n"
        "from pathlib import Path\n"
        "seen = [os.getcwd(), sys.path[0], os.environ['COMMANDLINE_ARGS']]\n"
        "written = Path(__file__).parent / 'written.json'\n"
        "written.write_text(json.dumps(seen))\n"
        "written.chmod(0o4666)\n",
    )
    skipped = image.add("two", "raise SystemExit('never run')", install="none")
    answer = image.install()
    assert answer.returncode == 0, answer.stderr
    seen = json.loads((folder / "written.json").read_text())
    assert seen[:2] == [str(A1111), str(folder)]
    assert seen[2].startswith("--data-dir ")
    assert (folder / "written.json").stat().st_mode & 0o7777 == 0o644
    for path in (folder / "written.json", folder / "install.py", skipped / "install.py"):
        assert path.stat().st_mtime == layer_time(sha256_of(path))
    assert not list(image.extensions.rglob("__pycache__"))


def test_packages_that_are_missing_are_named_whatever_the_installer_says(image: Image) -> None:
    call = "launch.run_pip('install no-such-package', 'x')"
    image.add("hides", f"import launch\ntry: {call}\nexcept RuntimeError: pass\n")
    answer = image.install()
    assert answer.returncode == 1
    expected = "extension hides: install.py asks for no-such-package, but it is not installed"
    assert f"install-extensions: {expected}" in answer.stdout


def test_requests_of_the_lock_are_compared_too(image: Image) -> None:
    image.add("quiet", "")
    image.lock.write_text(
        f"# extension quiet {COMMIT}\n#   install.py: packaging>=999\n#   install.py: lost\n"
        "#   override: lost; python_version < '0'\n"
    )
    answer = image.install()
    assert answer.returncode == 1
    [line] = [each for each in answer.stdout.splitlines() if each.startswith("install-ext")]
    assert "extension quiet: install.py asks for packaging>=999, but packaging " in line


def test_failing_installers_are_named_with_their_last_line(image: Image) -> None:
    image.add("fails", "import sys\nprint('before')\nsys.exit('no compiler was found')")
    answer = image.install()
    assert answer.returncode == 1
    assert "extension fails: install.py failed: no compiler was found - " in answer.stdout
    assert "before" in answer.stdout


def test_problems_are_the_last_lines_of_a_failed_build(image: Image) -> None:
    image.add("fails", "import sys\nprint('before')\nsys.exit('no compiler was found')")
    lines = image.install().stdout.splitlines()
    assert lines[-1].startswith("install-extensions: extension fails: install.py failed: no comp")


def test_installers_find_the_models_of_the_image(image: Image) -> None:
    shared = image.models / "extra/opt/a1111/models/insightface/inswapper.onnx"
    own = image.models / f"extra/{str(image.extensions)[1:]}/one/weights/own.pt"
    for model in (shared, own):
        model.parent.mkdir(parents=True)
        model.write_text("weights")
    folder = image.add(
        "one",
        "import shlex, os\nfrom pathlib import Path\n"
        "data = Path(shlex.split(os.environ['COMMANDLINE_ARGS'])[1])\n"
        "assert (data / 'models/insightface/inswapper.onnx').read_text() == 'weights'\n"
        "assert (Path(__file__).parent / 'weights/own.pt').read_text() == 'weights'\n",
    )
    answer = image.install()
    assert answer.returncode == 0, answer.stderr
    assert not (folder / "weights").exists(), "the image has them in another layer"
