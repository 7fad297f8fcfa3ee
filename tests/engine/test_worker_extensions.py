"""Extensions on a volume, in a running container: installed as the serving user, once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.running import container, eventually
from tests.support.wheels import make_wheel

WORKER = ["/opt/runpod/bin/python", "-m", "scripts.container"]
SCRIPT = """
import newcomer
from modules import scripts

class Needs(scripts.Script):
    def title(self):
        return f"Needs {newcomer.version}"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []
"""


def fill(volume: Path) -> None:
    """Put two extensions onto a volume: one needs a package, one raises when the API starts."""
    volume.chmod(0o755)
    make_wheel(volume / "wheels", "newcomer", "2.0")
    files = {
        "needs/install.py": "import launch\nlaunch.run_pip('install newcomer', 'newcomer')\n",
        "needs/scripts/needs.py": SCRIPT,
        "raises/scripts/raises.py": SCRIPT.replace("import newcomer", "newcomer = None").replace(
            "return []", "raise TypeError('no presets')"
        ),
    }
    for name, text in files.items():
        path = volume / "extensions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextmanager
def worker(image: str, volume: Path) -> Iterator[Any]:
    """Run a worker with the volume until the block ends; it is ready."""
    environment = {
        "STANDIN_TORCH": "0",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/runpod-volume/wheels",
        "RESTARTS": "0",
    }
    volumes = {str(volume): {"bind": "/runpod-volume", "mode": "rw"}}
    with container(image, environment=environment, volumes=volumes) as running:

        def is_healthy() -> bool:
            running.reload()
            assert running.status == "running", running.logs().decode()
            return bool(running.exec_run([*WORKER, "health"]).exit_code == 0)

        eventually(is_healthy, seconds=120, what="a drawn picture")
        yield running


def owners(folder: Path) -> set[int]:
    """Return the user ids of all files below a folder."""
    return {path.lstat().st_uid for path in folder.rglob("*")}


def test_an_extension_is_installed_once_and_a_broken_one_left_out(
    cpu_image: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    with worker(cpu_image, tmp_path) as running:
        health = running.exec_run([*WORKER, "health"]).output.decode()
        assert health.strip() == "ready, with broken extensions: raises"
        log = running.logs().decode()
        assert 'event=extension-broken extension=raises reason="TypeError: no presets"' in log
        assert "event=extension-installed extension=needs packages=1" in log
        assert "event=webui-died" not in log
        stats = running.exec_run([*WORKER, "pip-cache", "stats"]).output.decode()
        assert "pip runs  1" in stats
    packages = tmp_path / ".cache/a1111/extensions"
    assert owners(packages) == {1000}
    assert owners(tmp_path / "extensions") == {os.getuid()}, "nothing there is given away"
    with worker(cpu_image, tmp_path) as running:
        log = running.logs().decode()
        assert "event=extension-installing" not in log
        assert "extension-broken extension=needs" not in log
